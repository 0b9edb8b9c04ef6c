; The trap flag: a #DB after each instruction, not after MOV SS, one after a repeated instruction's element; INT and
; faults clear it; ICEBP. Source: Intel SDM 3B, 18.3.1.4.

%include "report.inc"
%include "protected.inc"

        REAL_MODE_START
        ENTER_PROTECTED_MODE
        SET_GATE 1, CODE32, debug, 0x8E00
        mov     eax, 0xFFFF0FF0
        mov     dr6, eax
        push    dword 0x102
        popf
        nop                             ; POPF's own end does not trap: this does
step1:  inc     eax
step2:  add     eax, 5
step3:  push    eax
step4:  pop     eax
step5:  jmp     .there
        nop
.there:
step6:  push    dword 2
step7:  popf                            ; traps once more: it was set when it began
step8:
        mov     ebx, expected
        mov     ecx, (expected_end - expected) / 4
        mov     esi, steps
.compare:
        mov     eax, [esi]
        CHECK   eax, e, [ebx]
        add     esi, 4
        add     ebx, 4
        dec     ecx
        jnz     .compare
        CHECK   [place], e, esi

; MOV SS holds the trap off for one instruction.
        mov     dword [place], steps
        mov     ax, ss
        push    dword 0x102
        popf
        mov     ss, ax
held:   nop
held1:  nop
held2:  push    dword 2
        popf
held3:  CHECK   dword [steps], e, held1
        CHECK   dword [steps + 4], e, held2

; A repeated instruction traps after each element.
        mov     dword [place], steps
        mov     edi, 0x900
        mov     ecx, 3
        push    dword 0x102
        popf
repeat: rep     stosb
behind: push    dword 2
        popf
behind1:
        CHECK   dword [steps], e, repeat
        CHECK   dword [steps + 4], e, repeat
        CHECK   dword [steps + 8], e, behind

; An interrupt clears the flag for its handler and pushes it set.
        mov     dword [place], steps
        SET_GATE 0x30, CODE32, handler, 0x8E00
        push    dword 0x102
        popf
        int     0x30
after:  push    strict dword 2
        popf
        ; IRET sets the flag again: the first trap is behind the next instruction.
        CHECK   dword [steps], e, after + 5
        PASS

; Notes where it was; BS must be set, and is cleared for the next.
debug:  push    eax
        push    ebx
        mov     eax, dr6
        test    eax, 0x4000
        CHECK_FLAG nz
        mov     ebx, [place]
        mov     eax, [esp + 8]
        mov     [ebx], eax
        add     dword [place], 4
        mov     eax, 0xFFFF0FF0
        mov     dr6, eax
        pop     ebx
        pop     eax
        iret

handler:
        pushf
        test    dword [esp], 0x100
        CHECK_FLAG z
        add     esp, 4
        test    dword [esp + 8], 0x100
        CHECK_FLAG nz
        iret

place:   dd      steps
expected:
        dd      step1, step2, step3, step4, step5, step6, step7, step8
expected_end:
steps:  times 64 dd 0
