"""The fields of scoring: how many draws, and the options of every random perturbation."""

from __future__ import annotations

from rbjax.config.field import Field

SCORE: dict[str, Field] = {
    "perturbation": Field(
        str,
        "random_pixels",
        "the random perturbation; several joined by + are a chain, the first applied first",
        several=True,
    ),
    "max_steps": Field(int, 250, "draws a datapoint; 0 leaves the scoring out", low=0, high=10**9),
    "repetitions": Field(
        int, 1, "times each datapoint is scored, each time with draws of its own", low=1
    ),
    "max_width": Field(
        float,
        None,
        "do not score again whose failure probability is known this well (95 %, anytime-valid)",
        above=0.0,
        high=1.0,
        optional=True,
    ),
    "stop_window": Field(
        int,
        None,
        "look after every so many draws whether the survival curve is flat, and stop there",
        low=1,
        optional=True,
    ),
    "stop_tolerance": Field(
        float, 0.005, "largest fall of a flat curve over a window", low=0.0, high=1.0
    ),
    "dtype": Field(
        str,
        None,
        "what the model computes in while it is scored, as it was trained",
        choices=("float32", "bfloat16"),
        optional=True,
    ),
    "block_size": Field(int, None, "datapoints read at once; by the device", low=1, optional=True),
    "max_pixels": Field(
        int,
        None,
        "pixels altered at most; the square root of their number",
        low=1,
        only=("random_pixels",),
        optional=True,
    ),
    "exactly": Field(
        bool, False, "so many pixels, rather than at most so many", only=("random_pixels",)
    ),
    "replace": Field(bool, False, "whether a pixel may be drawn twice", only=("random_pixels",)),
    "values": Field(
        str,
        "uniform",
        "law of a new value",
        choices=("uniform", "binary", "byte", "white", "inverted"),
        only=("random_pixels",),
    ),
    "sigma": Field(
        float,
        0.1,
        "standard deviation",
        above=0.0,
        unit="pixels in [0, 1]",
        only=("gaussian_noise",),
    ),
    "epsilon": Field(
        float,
        0.1,
        "half the width",
        above=0.0,
        high=1.0,
        unit="pixels in [0, 1]",
        only=("uniform_noise",),
    ),
    "amount": Field(
        float,
        0.05,
        "share of the values set to 0 or 1",
        above=0.0,
        high=1.0,
        only=("impulse_noise",),
    ),
    "max_sigma": Field(
        float,
        1.0,
        "largest standard deviation of the blur",
        above=0.0,
        high=10.0,
        unit="pixels",
        only=("gaussian_blur",),
    ),
    "max_delta": Field(
        float,
        0.2,
        "largest change of all values alike",
        above=0.0,
        high=1.0,
        unit="pixels in [0, 1]",
        only=("brightness",),
    ),
    "max_contrast": Field(
        float,
        0.5,
        "largest relative change of the distance from the mean",
        above=0.0,
        high=1.0,
        only=("contrast",),
    ),
    "max_shift": Field(
        float, 2.0, "largest move, each way", above=0.0, high=1000.0, unit="pixels", only=("shift",)
    ),
    "max_degrees": Field(
        float,
        15.0,
        "largest rotation either way",
        above=0.0,
        high=180.0,
        unit="degrees",
        only=("rotation",),
    ),
    "scale": Field(
        float,
        0.05,
        "standard deviation of the velocities: about how far things move",
        above=0.0,
        high=1.0,
        unit="widths of the image",
        only=("diffeomorphism",),
    ),
    "length_scale": Field(
        float,
        0.35,
        "over what distance velocities are alike",
        low=0.01,
        high=10.0,
        unit="widths of the image",
        only=("diffeomorphism",),
    ),
    "num_cells": Field(
        int, 3, "cells each way of the velocity field", low=1, high=16, only=("diffeomorphism",)
    ),
    "boundary": Field(
        str,
        "zero_normal",
        "whether nothing crosses the image's border, the border stays, or it is free",
        choices=("zero_normal", "zero", "free"),
        only=("diffeomorphism",),
    ),
    "num_steps": Field(
        int, 10, "steps of the flow's integration", low=1, high=1000, only=("diffeomorphism",)
    ),
    "coverage": Field(
        float, 0.1, "share of the noise that becomes flakes", low=0.0, high=1.0, only=("snow",)
    ),
    "flake_size": Field(
        float, 1.5, "how many times the noise is enlarged", low=1.0, only=("snow",)
    ),
    "max_whiteness": Field(
        float, 0.2, "how far the image is whitened at most", low=0.0, high=1.0, only=("snow",)
    ),
    "thickness": Field(float, 0.5, "the cloud's share, c", above=0.0, only=("fog",)),
    "decay": Field(
        float, 2.5, "smoothness of the cloud, 1.75 to 3 in CIFAR-10-C", low=1.0, only=("fog",)
    ),
    "rainfall": Field(
        float, 0.02, "streaks a pixel of the image", above=0.0, high=1.0, only=("rain",)
    ),
    "streak_length": Field(
        int, 6, "rows that a streak covers", low=1, high=1000, unit="pixels", only=("rain",)
    ),
    "opacity": Field(
        float,
        0.5,
        "what the brightest streak adds",
        above=0.0,
        high=1.0,
        unit="pixels in [0, 1]",
        only=("rain",),
    ),
    "split": Field(str, "test", "which split", choices=("train", "test")),
    "batch_size": Field(
        int,
        None,
        "datapoints drawn for at once, on each device; by their number",
        low=1,
        optional=True,
    ),
}
