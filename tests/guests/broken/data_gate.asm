; A handler's gate that names the data segment, met when a selector beyond the GDT is loaded.
%include "broken.inc"
        PROTECTED gdtr, idtr
        GATE    8, DATA, handler, 0x8E
        GATE    13, DATA, handler, 0x8E
        mov     ax, 0xF8
        mov     fs, ax
handler:
        hlt
        TABLES
        SECTOR
