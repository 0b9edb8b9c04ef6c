; Endless recursion on a stack segment of 256 bytes. All handlers are there; only the stack has no room for them.
%include "broken.inc"
        PROTECTED gdtr, idtr
        GATE    8, CODE, handler, 0x8E
        GATE    12, CODE, handler, 0x8E
        mov     ax, 0x28
        mov     ss, ax
        mov     esp, 0x100
again:  call    again
handler:
        hlt
        TABLES
        SECTOR
