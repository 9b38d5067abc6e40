"""The graph of layers: what each computes, needs and keeps, drawn from the operations planned."""

from __future__ import annotations

from typing import Any

from fastnn._planning.builder import FORWARD, Operation, Room, Scope, Value

__all__ = ["LayerGraph", "Node"]

SIGNS = {"add_forward": "+", "copy_columns": "join"}


class Node:
    """A layer, the sum or join at the end of a container, the input, the loss or the penalty.

    Attributes
    ----------
    title : str
    scope : str or None
        Path of the layer.
    value : Value or None
        What it computes.
    inputs : list of Node
    parameters : list of Parameter
    operations : list of Operation
        All, of forward and backward.
    backward : bool
        Whether it has a part in the backward pass.
    kept : int
        Bytes per sample of what it computes that the backward pass reads.
    """

    def __init__(self, title: str, scope: str | None = None, value: Value | None = None) -> None:
        self.title, self.scope, self.value = title, scope, value
        self.inputs: list[Node] = []
        self.parameters: list[Any] = []
        self.operations: list[Operation] = []
        self.backward, self.kept = False, 0

    @property
    def forward(self) -> list[Operation]:
        """Its operations of the forward pass."""
        return [op for op in self.operations if op.stage == FORWARD]


class LayerGraph:
    """Nodes in the order of the forward pass.

    Attributes
    ----------
    nodes : list of Node
        The input first.
    loss : Node or None
        Where a trainer computes it in C; not among `nodes`.
    kept : list of (Node, Node)
        Who computes what the backward part of whom reads.
    outputs_read : set of (Node, Node)
        Those of them that are about what a layer passes on, and not about something else that it
        keeps, such as a mask.
    """

    def __init__(self, schedule: Any, kept_bytes: dict[str | None, int]) -> None:
        self.schedule = schedule
        self.input = Node("x", value=schedule.x)
        self.nodes = [self.input]
        self.loss: Node | None = None
        self._producers: dict[Value, Node] = {schedule.x: self.input}
        self._own: dict[str, list[Operation]] = {}
        for op in schedule.operations:
            if not _reads_from_caller(op):
                self._own.setdefault(op.scope, []).append(op)
        open_scopes: list[tuple[Scope, list[bool]]] = []
        for scope in [*schedule.scopes, None]:
            while open_scopes and (scope is None or open_scopes[-1][0].depth >= scope.depth):
                self._close(*open_scopes.pop())
            if scope is not None:
                if open_scopes:
                    open_scopes[-1][1].append(True)
                open_scopes.append((scope, []))
        self._connect(kept_bytes)

    def _close(self, scope: Scope, inside: list[bool]) -> None:
        """Add what a layer computes itself, when all that is inside it is there."""
        own = self._own.get(scope.path, [])
        layer: Any = scope.layer
        ends = [op for op in own if any(getattr(p, "slot", None) == "target" for p in op.inputs)]
        forward = [op for op in own if op.stage == FORWARD and op not in ends]
        if not inside and not (layer.children() and not own):
            name = f"{scope.path} {layer!r}".strip()
            node = Node(" ".join(name.split()), scope.path, scope.output)
            node.inputs = [self._producers[scope.input]]
        elif forward:
            kind = SIGNS.get(forward[-1].kernel, forward[-1].kernel)
            node = Node(f"{scope.path} {type(layer).__name__}: {kind}".strip(), scope.path,
                        scope.output)
            read = (p for op in forward for p in op.inputs if isinstance(p, Value))
            found = [self._producers[p] for p in read if p in self._producers]
            node.inputs = list(dict.fromkeys(found))
        else:
            node = None
        if node is not None:
            node.operations = [op for op in own if op not in ends]
            node.parameters = list(layer._parameters.values())
            self.nodes.append(node)
            self._producers[scope.output] = node
        for op in ends:
            self.loss = Node(op.kernel.removesuffix("_forward"), scope.path)
            self.loss.operations = [op]

    def _connect(self, kept_bytes: dict[str | None, int]) -> None:
        """Find who keeps what for whom, and who has a backward part."""
        makers: dict[int, Node] = {id(self.schedule.x.root): self.input}
        self.kept: list[tuple[Node, Node]] = []
        self.outputs_read: set[tuple[Node, Node]] = set()
        self.input.kept = kept_bytes.get(None, 0)
        self.has_dx = any(
            self.schedule.x.grad.root in op.written for op in self.schedule.operations
        )  # fmt: skip
        self.input.backward = self.has_dx
        for node in self.nodes[1:]:
            node.kept = kept_bytes.get(node.scope, 0)
            later = [op for op in node.operations if op.stage != FORWARD]
            passes_on = not node.operations and any(before.backward for before in node.inputs)
            node.backward = bool(later) or passes_on
            for op in node.forward:
                for pointer in op.outputs:
                    if pointer is not None:
                        makers.setdefault(_place(pointer), node)
        for node in self.nodes[1:]:
            for op in node.operations:
                if op.stage != FORWARD:
                    for pointer in filter(_is_there, op.inputs):
                        maker = makers.get(_place(pointer))
                        if maker is None:
                            continue
                        self.kept.append((maker, node))
                        assert maker.value is not None
                        if _place(pointer) == _place(maker.value):
                            self.outputs_read.add((maker, node))
        self.kept = list(dict.fromkeys(self.kept))


def _is_there(pointer: Any) -> bool:
    return pointer is not None


def _place(pointer: Any) -> int:
    """Return what tells one array of a plan from others."""
    if isinstance(pointer, (Value, Room)):
        return id(pointer.root)
    address: int = pointer.ctypes.data
    return address


def _reads_from_caller(op: Operation) -> bool:
    """Return whether an operation only copies the input."""
    return any(isinstance(p, Value) and p.name == "given" for p in op.inputs)
