"""The sections of the benchmark, in the order of the report: functions that yield rows."""

from bench.sections.bfloat16 import bfloat16
from bench.sections.denormals import denormals
from bench.sections.elementwise import elementwise
from bench.sections.epochs import epochs
from bench.sections.estimators import estimators
from bench.sections.footprint import import_time, memory, size_on_disk
from bench.sections.lstm import lstm_prediction, lstm_step, lstm_training, ragged
from bench.sections.many_models import many_models
from bench.sections.normalization import normalization
from bench.sections.optimizers import optimizer_states, optimizers, torch_optimizers
from bench.sections.overhead import overhead
from bench.sections.predictions import batches, one_row
from bench.sections.products import gemm
from bench.sections.solvers import solvers
from bench.sections.steps import steps, widths
from bench.sections.tabular import tabular
from bench.sections.threads import threads
from bench.timing import Section

SECTIONS = {
    section.name: section
    for section in (
        Section(widths),
        Section(steps),
        Section(one_row),
        Section(batches),
        Section(epochs),
        Section(ragged),
        Section(lstm_training),
        Section(lstm_prediction),
        Section(lstm_step),
        Section(many_models, "ms", 1e3),
        Section(optimizers),
        Section(optimizer_states),
        Section(torch_optimizers),
        Section(memory, "MB", 1e-6),
        Section(import_time, "ms", 1e3),
        Section(size_on_disk, "MB", 1e-6),
        Section(gemm),
        Section(elementwise),
        Section(normalization),
        Section(bfloat16),
        Section(overhead),
        Section(threads, threads=2),
        Section(denormals, slow=True),
        Section(estimators, "ms", 1e3, slow=True),
        Section(solvers, "ms", 1e3, slow=True),
        Section(tabular, "s", 1, slow=True),
    )
}
