; A far jump to a code segment that is marked absent.
%include "broken.inc"
        mov     byte [gdt + CODE + 5], 0x1A
        PROTECTED gdtr, idtr
        TABLES
        SECTOR
