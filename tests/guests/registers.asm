; Puts a value of its own into every register that a program of ring 0 reaches, and ends: whoever runs it must show the
; same registers then. Protected mode, with an LDT, a task, breakpoints (not armed) and x87 and SSE state where that is.

%include "report.inc"
%include "protected.inc"

        REAL_MODE_START
        ENTER_PROTECTED_MODE
        mov     dword [ldt + 8], 0x4321 | 0x5678 << 16  ; data, 16 bits, expand-down
        mov     dword [ldt + 12], 0x12409712
        mov     dword [ldt + 16], 0x0ABC | 0xDEF0 << 16 ; conforming code
        mov     dword [ldt + 20], 0x34409E56
        mov     ax, LDT
        lldt    ax
        mov     ax, TASK
        ltr     ax
        mov     dword [spare_descriptor], 0x0000FFFF
        mov     dword [spare_descriptor + 4], 0x008F9200        ; page granular, not yet accessed
        mov     ax, 8 | 4
        mov     es, ax
        mov     ax, 16 | 4 | 3
        mov     fs, ax
        xor     ax, ax
        mov     gs, ax
        mov     ax, SPARE
        mov     ds, ax
        mov     eax, 0x11111111
        mov     dr0, eax
        mov     eax, 0x22222222
        mov     dr1, eax
        mov     eax, 0x33333333
        mov     dr2, eax
        mov     eax, 0x44444444
        mov     dr3, eax
        mov     eax, 0x55555555
        mov     cr2, eax
        mov     eax, 0x12345000
        mov     cr3, eax
        mov     eax, cr4
        or      eax, 0x600
        mov     cr4, eax
        mov     eax, cr0
        or      eax, 0x10000            ; WP
        mov     cr0, eax
        mov     ecx, 0x174              ; SYSENTER
        mov     eax, CODE32
        xor     edx, edx
        wrmsr
        inc     ecx
        mov     eax, 0x77777777
        wrmsr
        inc     ecx
        mov     eax, 0x66666666
        wrmsr
        mov     ebx, 0xBBBBBBBB
        mov     ecx, 0xCCCCCCCC
        mov     edx, 0xDDDDDDDD
        mov     esi, 0x51515151
        mov     edi, 0xD1D1D1D1
        mov     esp, 0x7A7A
        mov     eax, 0x80000000
        add     eax, eax                ; CF, PF, ZF, OF
        std
        mov     eax, 0xAAAAAAAA
        PASS
