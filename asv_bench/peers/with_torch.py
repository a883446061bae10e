"""PyTorch: eager, with the fused Adam, and rows taken by the numbers of a permutation."""

import torch

from asv_bench.peers.workloads import LEARNING_RATE, data, initial_weights, main


def prepare(work, threads):
    torch.set_num_threads(threads)
    inputs, labels = map(torch.from_numpy, data(work))
    binary = work.sizes[-1] == 1
    if binary:
        labels = labels.float()[:, None]
    layers = []
    for W, b in initial_weights(work):
        layer = torch.nn.Linear(*W.shape)
        with torch.no_grad():
            layer.weight.copy_(torch.from_numpy(W.T.copy()))
            layer.bias.copy_(torch.from_numpy(b))
        layers += [layer, torch.nn.ReLU()]
    model = torch.nn.Sequential(*layers[:-1])
    optimizer = torch.optim.Adam(model.parameters(), lr=LEARNING_RATE, fused=True)
    loss_of = torch.nn.BCEWithLogitsLoss() if binary else torch.nn.CrossEntropyLoss()

    def train():
        for _ in range(work.epochs):
            total = torch.zeros(())
            order = torch.randperm(work.rows)
            for start in range(0, work.rows, work.batch_size):
                chosen = order[start : start + work.batch_size]
                loss = loss_of(model(inputs[chosen]), labels[chosen])
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                optimizer.step()
                total += loss.detach()
        return float(total) / (work.rows // work.batch_size)

    return train


if __name__ == "__main__":
    main(prepare)
