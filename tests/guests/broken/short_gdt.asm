; A GDT whose limit leaves out the code segment that is jumped to.
%include "broken.inc"
        cli
        lgdt    [short_table]
        lidt    [idtr]
        mov     eax, cr0
        or      al, 1
        mov     cr0, eax
        jmp     dword CODE:after
        bits    32
after:  hlt
short_table:
        dw      7
        dd      gdt
        TABLES
        SECTOR
