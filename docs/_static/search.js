// In what the search shows of a page, formulas would be TeX: short ones are as words, and dots stand for the others.
document.addEventListener("DOMContentLoaded", () => {
  const formula = /<(span|div) class="math[^"]*">\s*\\[([]([^<]*)\\[)\]]\s*<\/\1>/g;
  const textOf = Search.htmlToText;
  Search.htmlToText = (html, anchor) =>
    textOf(
      html.replace(formula, (_all, _tag, tex) => (/[\\^_{}]/.test(tex) ? "…" : tex)),
      anchor,
    );
});
