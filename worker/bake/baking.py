"""Bakes the artefact of a model."""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from worker.artefact import MANIFEST, ClassifierError, Manifest, digests, network_files, read_manifest
from worker.bake.choice import AGREEMENT, NEEDED, Figures, choose, split, table
from worker.bake.convert import convert
from worker.bake.photos import PhotoFiles, find_photos
from worker.bake.quantise import check_nncf, quantise
from worker.pixels import Pixels
from worker.processor import processor
from worker.quiet_openvino import openvino
from worker.torch_network import TorchModel, torch_network
from worker.trial import Candidate, TrialError, fast_precisions, noise, try_networks

LARGEST_DIFFERENCE = 0.001
"""By how much a confidence of OpenVINO in fp32 may differ from torch's."""

MEASURING_SECONDS = 3600
"""How long measuring all candidates may take. The largest models classify only some images a second."""


@dataclass(frozen=True)
class Result:
    """What the artefact of a model shall be."""

    engine: str
    precision: str
    reason: str
    network: Path | None


def bake(model: TorchModel, precision: str, files: PhotoFiles, folder: Path) -> Manifest:
    """Bakes the model at `precision` (that of the settings) into the folder, and returns the manifest.

    An artefact that is there already is replaced when the new one is complete, at once. Raises
    ClassifierError when the model cannot be baked at this precision, and CloudError or OSError when the
    photos cannot be read.
    """
    folder.mkdir(parents=True, exist_ok=True)
    try:
        result = Oven(model, folder).bake(precision, files)
        manifest = Manifest(
            model=model.name,
            weights_sha256=model.weights_sha256,
            labels=model.labels,
            preprocessing=model.preprocessing,
            engine=result.engine,
            precision=result.precision,
            reason=result.reason,
            photos=files.identity,
            processor=processor(),
            network=result.network.name if result.network else "",
            files=digests(result.network) if result.network else {},
        )
        new = folder / f"{MANIFEST}.new"
        new.write_text(manifest.model_dump_json(), encoding="utf-8")
        new.replace(folder / MANIFEST)
    finally:
        remove_unused(folder)
    return manifest


def remove_unused(folder: Path) -> None:
    """Removes the networks that the folder's manifest does not name."""
    manifest = read_manifest(folder)
    used = manifest.network if manifest else ""
    for file in folder.iterdir():
        if file.name != MANIFEST and file.stem != Path(used).stem:
            file.unlink()


class Oven:
    """Makes networks of one model in a folder, tries them, and chooses one of them."""

    def __init__(self, model: TorchModel, folder: Path) -> None:
        self.model, self.folder = model, folder
        self.token = secrets.token_hex(4)

    def bake(self, precision: str, files: PhotoFiles) -> Result:
        """Returns the network for a value of PRECISION. Raises ClassifierError when it cannot be made."""
        print(f"{self.model.name}: converting for OpenVINO")
        converted = convert(self.model)
        fp32 = self.save(converted, "fp32")
        if failure := self.why_not_openvino(fp32):
            if precision in ("bf16", "int8"):
                raise ClassifierError(
                    f"{failure} PRECISION={precision} needs OpenVINO here: use fp32 or auto."
                )
            return Result("torch", "fp32", failure, None)
        if precision == "fp32":
            return Result("openvino", "fp32", "PRECISION is fp32.", fp32.network)
        calibrating, measured = split(files.prepare(self.model.preprocessing))
        if precision != "auto":
            candidates = [fp32, self.candidate(precision, converted, fp32, calibrating)]
            if len(measured):
                self.measure(candidates, measured)
            return Result("openvino", precision, f"PRECISION is {precision}.", candidates[1].network)
        if not len(measured):
            return Result("openvino", "fp32", too_few(len(calibrating), files), fp32.network)
        return self.fastest(converted, fp32, calibrating, measured)

    def fastest(
        self, converted: openvino.Model, fp32: Candidate, calibrating: Pixels, measured: Pixels
    ) -> Result:
        """Returns the fastest network that agrees with that of fp32."""
        candidates = [fp32]
        for precision in ("bf16", "int8"):
            try:
                candidates.append(self.candidate(precision, converted, fp32, calibrating))
            except ClassifierError as error:
                print(f"left out: {error}")
        figures = self.measure(candidates, measured)
        chosen = choose(figures)
        reason = (
            f"{chosen.precision} is the fastest of {', '.join(one.precision for one in figures)} that has"
            f" the label of fp32 on at least {AGREEMENT:.0%} of {len(measured)} photos."
        )
        return Result("openvino", chosen.precision, reason, candidates[figures.index(chosen)].network)

    def candidate(
        self, precision: str, converted: openvino.Model, fp32: Candidate, calibrating: Pixels
    ) -> Candidate:
        """Returns a network at bf16 or int8 that runs here. Raises ClassifierError when there is none."""
        try:
            if precision not in fast_precisions():
                raise TrialError("it has no instructions for that")
            if precision == "bf16":
                made = Candidate("bf16", fp32.network)  # OpenVINO converts it when it is loaded
            else:
                check_nncf()
                print(f"{self.model.name}: quantising with {len(calibrating)} photos")
                made = self.save(quantise(converted, calibrating), "int8")
            try_networks([made], self.trial_images())
        except TrialError as error:
            raise ClassifierError(f"This processor cannot run the model in {precision}: {error}.") from error
        return made

    def save(self, network: openvino.Model, precision: str) -> Candidate:
        file = self.folder / f"{precision}-{self.token}.xml"
        openvino.save_model(network, file, compress_to_fp16=False)
        return Candidate(precision, file)

    def trial_images(self) -> Pixels:
        """Returns the packaged photos and noise, as the network takes them."""
        constants = self.model.preprocessing
        return np.concatenate([find_photos("", None).prepare(constants), noise(8, constants)])

    def why_not_openvino(self, fp32: Candidate) -> str:
        """Returns why OpenVINO does not work on this processor, as a sentence, or "" when it does."""
        images = self.trial_images()
        expected = torch_network(self.model, "fp32")(images)
        try:
            found = try_networks([fp32], images)[0].confidences
        except TrialError as error:
            return f"OpenVINO cannot run the model on this processor: {error}."
        difference = float(abs(found - expected).max())
        if not difference <= LARGEST_DIFFERENCE or (found.argmax(1) != expected.argmax(1)).any():
            return (
                f"OpenVINO's confidences differ from torch's by up to {difference:.4f} on this"
                f" processor, which is more than {LARGEST_DIFFERENCE}, or changes labels."
            )
        print(f"OpenVINO agrees with torch on {len(images)} images, to {difference:.1e} in the confidences")
        return ""

    def measure(self, candidates: Sequence[Candidate], photos: Pixels) -> list[Figures]:
        """Measures all candidates, of which the first is fp32, and prints the figures."""
        try:
            outcomes = try_networks(candidates, photos, MEASURING_SECONDS)
        except TrialError as error:
            raise ClassifierError(f"The networks cannot be compared: {error}.") from error
        labels = outcomes[0].confidences.argmax(1)
        figures = [
            Figures(
                one.precision,
                outcome.images_per_second,
                float((outcome.confidences.argmax(1) == labels).mean()),
                megabytes(one.network),
            )
            for one, outcome in zip(candidates, outcomes, strict=True)
        ]
        print(f"measured with {len(photos)} photos on this processor:")
        print(table(figures))
        return figures


def megabytes(network: Path) -> float:
    """Returns the size of a network's files."""
    return sum(file.stat().st_size for file in network_files(network)) / 1e6


def too_few(count: int, files: PhotoFiles) -> str:
    """Returns a sentence that says why there is no choice with so few photos."""
    there = "PHOTOS is not set" if not files.identity else f"PHOTOS has only {count}"
    return (
        f"PRECISION is auto, which needs {NEEDED} photos to choose bf16 or int8, and {there}:"
        " set it to a folder or s3://bucket/prefix of photos."
    )
