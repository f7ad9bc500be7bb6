"""What a version's file of steps holds, a safetensors file of parts by these names.

    registry/<model>/<version>/model.steps.safetensors    of a family that has states (models/family.py)
        begin, begin_full    ONNX graphs, as bytes: the state after a history, of a window with room or a full one
        grow, fill, slide    an event enters a window that has room, that it fills, that is full
        ask                  what a state says
        table.*              what the graphs look up, inputs of theirs, and model.onnx too: mapped, shared by workers

Of a family whose states do not slide there are begin, grow and ask alone.

Graphs name the weights beside them as model.onnx does. Their inputs and outputs are called `grow.in.memory`,
`grow.out.memory` and so on. The metadata says from how many answers on a state pays.

onnx_steps.py writes it, session_steps.py runs it.
"""

BEGINS = BEGIN, BEGIN_FULL = "begin", "begin_full"
WAYS = GROW, FILL, SLIDE = "grow", "fill", "slide"
ASK = "ask"
IN, OUT = ".in.", ".out."  # between a graph's name and what it takes and gives
TABLE = "table."
PAYS = "pays"
