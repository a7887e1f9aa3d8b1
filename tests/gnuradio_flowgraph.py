"""A flowgraph of GNU Radio that sends numbered samples; run by the system's Python, which has GNU Radio.

Sample n has I = n % 256 and Q = n // 256 % 256 minus 128 each, so that it fits every type and repeats after PERIOD.
It says READY once its sink is bound, starts at the first line of its input, and stops at the second: it then tells how
many samples its sink took, and ends with its input.
"""

import argparse
import sys

import numpy
import pmt
from gnuradio import blocks, gr, zeromq

PERIOD = 65_536
TYPES = {"complex64": numpy.complex64, "int16": numpy.int16, "int8": numpy.int8}


class RadioTags(gr.sync_block):
    """Passes items on, tagged at the first one and wherever `at` says, as a radio's driver would."""

    def __init__(self, item, rate_hz, retuned_at, overflow_at):
        gr.sync_block.__init__(self, name="radio tags", in_sig=[item], out_sig=[item])
        self.rate_hz, self.retuned_at, self.overflow_at = rate_hz, retuned_at, overflow_at

    def work(self, input_items, output_items):
        output_items[0][:] = input_items[0]
        begin = self.nitems_written(0)
        for offset in (0, self.retuned_at, self.overflow_at):
            if begin <= offset < begin + len(output_items[0]) and (offset or not begin):
                self.tag(offset)
        return len(output_items[0])

    def tag(self, offset):
        lost_s = 0.25 if self.overflow_at and offset >= self.overflow_at else 0.0
        seconds = offset / self.rate_hz + 0.25 + lost_s
        time = pmt.make_tuple(pmt.from_uint64(1_700_000_000 + int(seconds)), pmt.from_double(seconds % 1))
        frequency = 2.4e9 + (1e6 if self.retuned_at and offset >= self.retuned_at else 0)
        for key, value in (
            ("rx_time", time),
            ("rx_rate", pmt.from_double(self.rate_hz)),
            ("rx_freq", pmt.from_double(frequency)),
            ("gains", pmt.init_f32vector(2, [1.0, 2.0])),
        ):
            self.add_item_tag(0, offset, pmt.intern(key), value, pmt.intern("radio"))


def numbered(kind):
    """Return a source block of PERIOD samples for ever, its item size and the number of them in a sample."""
    n = numpy.arange(PERIOD)
    i, q = n % 256 - 128, n // 256 - 128
    if kind == "complex64":
        return blocks.vector_source_c(i + 1j * q, True), gr.sizeof_gr_complex, 1
    pairs = numpy.stack((i, q), axis=1).reshape(-1).tolist()
    if kind == "int16":
        return blocks.vector_source_s(pairs, True, 2), gr.sizeof_short, 2
    return blocks.vector_source_b([value % 256 for value in pairs], True, 2), gr.sizeof_char, 2


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--endpoint", required=True)
    parser.add_argument("--sink", choices=("pub", "push"), required=True)
    parser.add_argument("--tags", action="store_true")
    parser.add_argument("--kind", choices=sorted(TYPES), default="complex64")
    parser.add_argument("--rate", type=float, required=True)
    parser.add_argument("--samples", type=int, default=0)
    parser.add_argument("--retuned-at", type=int, default=0)
    parser.add_argument("--overflow-at", type=int, default=0)
    parser.add_argument("--no-radio", action="store_true")
    args = parser.parse_args()
    flowgraph = gr.top_block()
    source, item_bytes, items = numbered(args.kind)
    chain = [source, blocks.throttle(item_bytes * items, args.rate)]
    if args.samples:
        chain.append(blocks.head(item_bytes * items, args.samples))
    if not args.no_radio:
        item = TYPES[args.kind] if items == 1 else (TYPES[args.kind], items)
        chain.append(RadioTags(item, args.rate, args.retuned_at, args.overflow_at))
    sink = zeromq.push_sink if args.sink == "push" else zeromq.pub_sink
    sink = sink(item_bytes, items, args.endpoint, 100, args.tags)
    chain.append(sink)
    flowgraph.connect(*chain)
    print("READY", flush=True)
    sys.stdin.readline()
    flowgraph.start()
    sys.stdin.readline()
    flowgraph.stop()
    flowgraph.wait()
    print("SENT", sink.nitems_read(0), flush=True)
    sys.stdin.read()  # a sink that is closed drops what it has not sent yet


main()
