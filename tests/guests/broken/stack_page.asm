; Endless recursion until the stack meets a page that is not mapped.
%include "broken.inc"
DIRECTORY equ 0x10000
PAGES   equ 0x11000
        PROTECTED gdtr, idtr
        GATE    8, CODE, handler, 0x8E
        GATE    14, CODE, handler, 0x8E
        mov     dword [DIRECTORY], PAGES | 3
        mov     edi, PAGES
        mov     eax, 3
fill:   mov     [edi], eax
        add     eax, 0x1000
        add     edi, 4
        cmp     edi, PAGES + 4 * 1024
        jb      fill
        mov     dword [PAGES + 4 * 0x5F], 0     ; the page below the stack
        mov     eax, DIRECTORY
        mov     cr3, eax
        mov     eax, cr0
        or      eax, 0x80000000
        mov     cr0, eax
        mov     esp, 0x61000
again:  call    again
handler:
        hlt
        TABLES
        SECTOR
