"""Counters of a watcher in Prometheus's text format."""

from __future__ import annotations

from nervecode.lab.watch.watcher import Watcher

PREFIX = "nervecode_monitor"


def metrics_text(watcher: Watcher) -> str:
    """Text exposition, version 0.0.4 (https://prometheus.io/docs/instrumenting/exposition_formats)."""
    monitor = watcher.monitor
    lines: list[str] = []

    def metric(name: str, kind: str, help: str, values: dict[str, float]) -> None:
        lines.extend([f"# HELP {PREFIX}_{name} {help}", f"# TYPE {PREFIX}_{name} {kind}"])
        lines.extend(f"{PREFIX}_{name}{labels} {value:.10g}" for labels, value in values.items())

    metric("inputs_total", "counter", "Inputs taken.", {"": monitor.inputs})
    if watcher.flagged is not None:
        metric("flagged_total", "counter", "Inputs whose flag was set.", {"": watcher.flagged})
    metric("skipped_total", "counter", "Unreadable records left out.", {"": watcher.skipped})
    metric("alarms_total", "counter", "Alarms raised.", {"": watcher.alarms})
    if not watcher.restart:  # where none latches, 0 would say that there was none
        metric("alarm", "gauge", "1 while an alarm is latched.", {"": monitor.alarm is not None})
    evidence = {"": monitor.log10_evidence}
    metric("evidence_log10", "gauge", "Evidence of a change, power of ten.", evidence)
    threshold = {"": monitor.log10_threshold}
    metric("threshold_log10", "gauge", "Evidence that raises an alarm.", threshold)
    if monitor.settings.layers:
        by_layer = {f'{{layer="{_escaped(n)}"}}': value for n, value in monitor.layers.items()}
        metric("layer_evidence_log10", "gauge", "Evidence of each layer alone.", by_layer)
    return "\n".join(lines) + "\n"


def _escaped(label: str) -> str:
    return label.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
