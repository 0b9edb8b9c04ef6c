; Ring 3 without a task-state segment: CLI is refused there, and there is no stack for the handler.
%include "broken.inc"
        PROTECTED gdtr, idtr
        GATE    8, CODE, handler, 0x8E
        GATE    13, CODE, handler, 0x8E
        push    0x23
        push    0x7000
        push    2
        push    0x1B
        push    user
        iretd
user:   cli
handler:
        hlt
        TABLES
        SECTOR
