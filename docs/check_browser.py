"""Looks at a built site in a browser: every page as wide as a desktop and as a phone, and the search.

python docs/check_browser.py docs/_build/html

Needs Chromium or Chrome. Tells what a page complains about, what it cannot load, and if it is wider than its window.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
QUIET = (
    "headless no-sandbox disable-gpu disable-quic no-first-run disable-background-networking disable-component-update"
)

#: Widths of a window.
WIDTHS = (1280, 390)

#: What a reader may search, also in the words of other libraries, and the page that has to be among the first found.
QUERIES = {
    "check_gradients": "reference/model.html",
    "class imbalance": "how-to/class_imbalance.html",
    "custom loss": "how-to/own_parts.html",
    "dropout": "reference/layers.html",
    "multiclass": "how-to/choose_a_loss.html",
    "save a model": "how-to/save_and_resume.html",
    "softmax": "reference/glossary.html",
    "tensorflow": "how-to/from_keras.html",
    "transfer learning": "how-to/reuse_layers.html",
    "uncertainty": "how-to/uncertainty.html",
}
FIRST = 5

#: Seconds for a search, and for all pages.
WAIT, LIMIT = 10, 900

#: Put at the top of every page: it keeps what goes wrong.
LISTEN = b"""<script>
window.problems = [];
addEventListener("error", e => problems.push(e.message || `cannot load ${e.target.src || e.target.href}`), true);
addEventListener("unhandledrejection", e => problems.push(String(e.reason)));
for (const level of ["error", "warn"]) console[level] = (...words) => problems.push(words.join(" "));
</script>"""

#: The page that opens all others, one after the other, in a frame.
LOOK = """<!doctype html><title>look</title><body><script>
const found = [], sleep = milliseconds => new Promise(done => setTimeout(done, milliseconds));
async function open(page, width) {
  document.body.replaceChildren();
  const frame = document.createElement("iframe");
  frame.style = `border: 0; width: ${width}px; height: 800px`;
  const loaded = new Promise(done => frame.onload = done);
  frame.src = page;
  document.body.append(frame);
  await loaded;
  await frame.contentWindow.MathJax?.startup?.promise;
  return frame.contentWindow;
}
function judge(view, page, width) {
  const {scrollWidth, clientWidth} = view.document.documentElement;
  const wide = scrollWidth > clientWidth ? [`is ${scrollWidth} pixels wide`] : [];
  for (const problem of [...view.problems, ...wide]) found.push(`${page} at ${width} pixels: ${problem}`);
}
async function look() {
  for (const width of WIDTHS) {
    for (const page of PAGES) judge(await open(page, width), page, width);
    for (const [query, target] of Object.entries(QUERIES)) {
      const page = `search.html?q=${encodeURIComponent(query)}`, view = await open(page, width);
      const first = () => [...view.document.querySelectorAll("#search-results li")].slice(0, FIRST);
      const isThere = () => first().some(item => item.querySelector("a").href.includes(target));
      const isShown = () => first().every(item => item.children.length > 1);
      for (let tries = 10 * WAIT; tries && !(isThere() && isShown()); tries--) await sleep(100);
      if (!isThere()) found.push(`${page} at ${width} pixels: ${target} is not among the first`);
      if (first().some(item => item.textContent.includes("\\\\(")))
        found.push(`${page} at ${width} pixels: shows a formula as TeX`);
      judge(view, page, width);
    }
  }
}
look().catch(fault => found.push(String(fault))).then(() => fetch("/", {method: "POST", body: JSON.stringify(found)}));
</script>"""


class Server(ThreadingHTTPServer):
    """Says nothing where the browser leaves a page before it has all of what it asked for."""

    def handle_error(self, *asked: object) -> None:
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(*asked)  # type: ignore[arg-type]


def problems(root: Path, browser: str) -> tuple[list[str], int]:
    """What is wrong in the site below ``root``, and how many pages it has."""
    pages = sorted(path.relative_to(root).as_posix() for path in root.rglob("*.html"))
    page = LOOK
    for name, value in (("PAGES", pages), ("WIDTHS", WIDTHS), ("QUERIES", QUERIES), ("FIRST", FIRST), ("WAIT", WAIT)):
        page = page.replace(name, json.dumps(value))
    found: list[str] = []
    done = threading.Event()

    class Handler(SimpleHTTPRequestHandler):
        def __init__(self, *arguments: object):
            super().__init__(*arguments, directory=str(root))  # type: ignore[arg-type]

        def do_GET(self) -> None:
            path = root / self.path.partition("?")[0].lstrip("/")
            if self.path == "/":
                self.answer(page.encode())
            elif path.suffix == ".html" and path.is_file():
                self.answer(path.read_bytes().replace(b"<head>", b"<head>" + LISTEN, 1))
            else:
                super().do_GET()

        def do_POST(self) -> None:
            found.extend(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.answer(b"")
            done.set()

        def answer(self, content: bytes) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *arguments: object) -> None:
            pass

    with (
        Server(("127.0.0.1", 0), Handler) as server,
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile,
    ):
        threading.Thread(target=server.serve_forever, daemon=True).start()
        flags = [f"--{flag}" for flag in QUIET.split()] + [f"--user-data-dir={profile}", "--window-size=1400,900"]
        command = [browser, *flags, f"http://127.0.0.1:{server.server_port}/"]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        if not done.wait(LIMIT):
            found.append(f"not done after {LIMIT} seconds")
        process.terminate()
        process.wait()
        server.shutdown()
    return found, len(pages)


def main(folder: str) -> int:
    """Print what is wrong; the exit status is 0 if nothing is."""
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        sys.exit(f"no browser found; expected one of {', '.join(BROWSERS)}")
    found, pages = problems(Path(folder).resolve(), browser)
    for line in found:
        print(line, file=sys.stderr)
    print(f"{pages} pages at {len(WIDTHS)} widths, {len(QUERIES)} searches, {len(found)} problems")
    return int(bool(found) or pages == 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
