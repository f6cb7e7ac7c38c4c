"""The demonstration: exports of a made-up shop, two days of them, run through the whole pipeline."""
