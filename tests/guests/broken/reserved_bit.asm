; PAE page tables of which one entry has a reserved bit set.
%include "broken.inc"
POINTERS equ 0x10000
DIRECTORY equ 0x11000
        PROTECTED gdtr, none
        mov     dword [POINTERS], DIRECTORY | 1
        mov     dword [DIRECTORY], 0x83                 ; the first 2 MiB
        mov     dword [DIRECTORY + 8], 0x200083         ; the next
        mov     dword [DIRECTORY + 12], 0x00100000      ; bit 52
        mov     eax, cr4
        or      al, 0x20
        mov     cr4, eax
        mov     eax, POINTERS
        mov     cr3, eax
        mov     eax, cr0
        or      eax, 0x80000000
        mov     cr0, eax
        mov     eax, [0x234567]
        TABLES
        SECTOR
