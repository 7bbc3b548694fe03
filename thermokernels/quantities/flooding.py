"""Kernels of the merge tree: states are flooded level by level in order of energy, and their components are merged by union-find.

The tree is a forest of *nodes*, far fewer than states. A minimum opens a node; a saddle opens a node above those it joins; every
state keeps the number of the node that was current when it was flooded. A node that has been joined never grows again, so the set of
states of a component is a subtree of nodes, and no component is ever stored as a list of states.
"""

from __future__ import annotations

from thermokernels.compiled.decorator import jit

NONE = -1  # no node: a dry state, a root's parent
PENDING = -2  # a state of the level that is being flooded


@jit
def _find(top, node):
    """The node that holds ``node`` now, with path halving."""
    while top[node] != node:
        top[node] = top[top[node]]
        node = top[node]
    return node


@jit
def _flood(order, level_starts, flips, nodes, level, parent, top, stack):
    """Flood ``order[level_starts[k] : level_starts[k + 1]]`` for k = 0, 1, ... and return the number of nodes opened.

    ``flips`` (1, k) lead from any state to its neighbours by exclusive or, (n_states, k) have a row for each state.
    On entry parent is NONE and top[n] = n everywhere, stack has room for the largest level. On return nodes[x] is the node of
    state x, parent[n] > n the node that absorbed n, level[n] the level at which n was opened. All
    states of a level are flooded together: a plateau touches components of lower levels only, and two plateaus of one level that
    meet through a lower component share one node (the younger absorbs the elder, at the same level).
    """
    nodes[:] = NONE
    n_nodes = 0
    for current in range(level_starts.size - 1):
        start, stop = level_starts[current], level_starts[current + 1]
        for k in range(start, stop):
            nodes[order[k]] = PENDING
        for k in range(start, stop):
            if nodes[order[k]] != PENDING:
                continue
            # A lone state that grows one component needs no node of its own; a plateau gets one at once.
            node = NONE
            if stop - start > 1:
                node, n_nodes = n_nodes, n_nodes + 1
                level[node] = current
            stack[0], depth = order[k], 1
            while depth:
                depth -= 1
                state = stack[depth]
                nodes[state] = node
                for flip in flips[min(state, flips.shape[0] - 1)]:
                    neighbour = state ^ flip
                    if nodes[neighbour] == PENDING:
                        nodes[neighbour] = node
                        stack[depth] = neighbour
                        depth += 1
                    elif nodes[neighbour] >= 0:
                        other = _find(top, nodes[neighbour])
                        if node == NONE:
                            node = other
                        elif other != node:
                            if level[node] < current:
                                parent[node] = top[node] = n_nodes
                                node, n_nodes = n_nodes, n_nodes + 1
                                level[node] = current
                            parent[other] = top[other] = node
            if node == NONE:
                node, n_nodes = n_nodes, n_nodes + 1
                level[node] = current
            nodes[order[k]] = node
    return n_nodes


@jit
def _sum_subtrees(nodes, law, level, parent, size, mass, lowest, birth):
    """Of every subtree: its number of states, its probability, its least state number, and the level of its minimum."""
    size[:], mass[:], lowest[:] = 0, 0.0, nodes.size
    for node in range(level.size):  # to assign one slice to another takes two seconds to compile
        birth[node] = level[node]
    for state in range(nodes.size):
        node = nodes[state]
        size[node] += 1
        mass[node] += law[state]
        lowest[node] = min(lowest[node], state)
    for node in range(parent.size):  # children before parents
        above = parent[node]
        if above != NONE:
            size[above] += size[node]
            mass[above] += mass[node]
            lowest[above] = min(lowest[above], lowest[node])
            birth[above] = min(birth[above], birth[node])


@jit
def _number_subtrees(level, parent, start, stop):
    """Number the nodes so that the subtree of node n takes the numbers start[n] <= number < stop[n], n itself the first of them.

    Then let parent[n] skip every node that was absorbed at its own level: such a node is a part of its parent's plateau.
    """
    n_nodes = parent.size
    stop[:] = 1  # the number of nodes of the subtree, for now
    for node in range(n_nodes):
        if parent[node] != NONE:
            stop[parent[node]] += stop[node]
    taken, next_of = 0, start.copy()
    for node in range(n_nodes - 1, -1, -1):  # parents before children
        above = parent[node]
        if above == NONE:
            start[node] = taken
            taken += stop[node]
        else:
            start[node] = next_of[above]
            next_of[above] += stop[node]
            if parent[above] != NONE and level[parent[above]] == level[above]:
                parent[node] = parent[above]
        next_of[node] = start[node] + 1
    stop += start
