"""`nervecode import-checkpoint`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nervecode.cli import options
from nervecode.cli.opening import named_run, open_run
from nervecode.cli.options import AnyRun, ConfigFile, Device, OutDir, Overrides, Preset, TrustCode
from nervecode.cli.show import next_step, say
from nervecode.cli.stage import working

if TYPE_CHECKING:
    from nervecode.lab.schema import Config
    from nervecode.lab.stages.bench import Prepared


def import_checkpoint(
    file: Annotated[Path, typer.Argument(help="Weights: .safetensors, or as torch.save wrote.")],
    run: AnyRun = None,
    seed: Annotated[
        int | None,
        typer.Option(help="Whose place it takes; a new run has it alone. Default: the first."),
    ] = None,
    preset: Preset = None,
    config: ConfigFile = None,
    device: Device = None,
    outdir: OutDir = None,
    override: Overrides = None,
    uri: Annotated[str | None, typer.Option(help="Where it comes from; noted.")] = None,
    sha256: Annotated[str | None, typer.Option(help="The SHA-256 that it must have.")] = None,
    trust_code: TrustCode = False,
) -> None:
    """Take a classifier that was trained elsewhere. It becomes that of one seed of a run.

    Example: nervecode import-checkpoint resnet.pt --config mine.yaml --seed 0
    """
    options.checkpoint_label(uri, sha256)
    seeds = None
    if run is None:
        # A new run has the one seed: `bench` would train the others of the config from scratch.
        if seed is None:
            given = (preset, config, None, device, override)
            seed = named_run("import-checkpoint", None, *given)[1].seeds[0]
        seeds = str(seed)
        override = [text for text in override or () if text.partition("=")[0].strip() != "seeds"]
    from nervecode.lab.models.foreign import foreign_classifier
    from nervecode.lab.stages.train import import_seed
    from nervecode.lab.stages.trial import Trial

    def check(wanted: Config, prepared: Prepared) -> None:
        foreign_classifier(wanted, prepared.splits, chosen(wanted), file, sha256=sha256)

    def chosen(wanted: Config) -> int:
        return wanted.seeds[0] if seed is None else seed

    opened, new, prepared = open_run(
        "import-checkpoint", run, preset, config, seeds, device, override,
        outdir=outdir, check=check, trains=False,
    )  # fmt: skip
    say(f"Run: {opened.root}")
    with working(opened, new) as (shown, _):
        trial = Trial(opened, prepared.splits, chosen(new), prepared.device, shown)
        import_seed(trial, file, uri=uri, sha256=sha256)
    next_step("bench", opened.root)
