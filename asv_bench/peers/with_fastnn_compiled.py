"""fastnn's documented lower way: ``Model.compiled_predict``, the network and its buffers bound together."""

from asv_bench.benchmarks.models import network


def predictor(work, threads):
    return network(work).compiled_predict()
