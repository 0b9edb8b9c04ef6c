; Paging switched on with tables that do not map the code that goes on.
%include "broken.inc"
DIRECTORY equ 0x10000
        PROTECTED gdtr, idtr
        GATE    8, CODE, 0x7C00, 0x8E
        GATE    14, CODE, 0x7C00, 0x8E
        mov     eax, DIRECTORY
        mov     cr3, eax
        mov     eax, cr0
        or      eax, 0x80000000
        mov     cr0, eax
        hlt
        TABLES
        SECTOR
