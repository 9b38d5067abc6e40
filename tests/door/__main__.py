"""Say how many bad calls there are."""

from . import SUBJECTS

total = 0
for name, subject in SUBJECTS.items():
    count = sum(len(list(call.rows())) for call in subject.CALLS) + len(subject.ROWS)
    total += count
    print(f"{name:16}{count:6}")
print(f"{'bad calls':16}{total:6}")
