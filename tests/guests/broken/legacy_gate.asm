; Long mode with handlers in a 32-bit code segment, and an undefined instruction.
%include "broken.inc"
PML4    equ 0x10000
POINTERS equ 0x11000
DIRECTORY equ 0x12000
        PROTECTED gdtr, idtr
        mov     word [IDT + 16 * 6], handler
        mov     word [IDT + 16 * 6 + 2], CODE
        mov     dword [IDT + 16 * 6 + 4], 0x8E00
        mov     word [IDT + 16 * 8], handler
        mov     word [IDT + 16 * 8 + 2], CODE
        mov     dword [IDT + 16 * 8 + 4], 0x8E00
        mov     dword [PML4], POINTERS | 3
        mov     dword [POINTERS], DIRECTORY | 3
        mov     dword [DIRECTORY], 0x83
        mov     eax, cr4
        or      al, 0x20
        mov     cr4, eax
        mov     eax, PML4
        mov     cr3, eax
        mov     ecx, 0xC0000080
        rdmsr
        or      ah, 1
        wrmsr
        mov     eax, cr0
        or      eax, 0x80000000
        mov     cr0, eax
        jmp     0x30:wide
        bits    64
wide:   ud2
handler:
        hlt
        TABLES
        SECTOR
