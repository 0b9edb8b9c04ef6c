; Task switches by jump, call, IRET and a task gate: state saved and loaded, busy bits, back link, NT, TS.
; Source: Intel SDM 3A, chapter 8.

%include "report.inc"
%include "protected.inc"

TSS_EIP equ 0x20
TSS_FLAGS equ 0x24
TSS_EAX equ 0x28
TSS_ESP equ 0x38
TSS_SEGMENTS equ 0x48                   ; ES, CS, SS, DS, FS, GS

%macro NEW_TASK 1
        mov     dword [tss2 + TSS_EIP], %1
        mov     dword [tss2 + TSS_FLAGS], 2
        mov     dword [tss2 + TSS_EAX], 0xAAAA
        mov     dword [tss2 + TSS_ESP], 0x6000
        mov     dword [tss2 + TSS_SEGMENTS], DATA32
        mov     dword [tss2 + TSS_SEGMENTS + 4], CODE32
        mov     dword [tss2 + TSS_SEGMENTS + 8], DATA32
        mov     dword [tss2 + TSS_SEGMENTS + 12], DATA32
        mov     dword [tss2 + TSS_SEGMENTS + 16], 0
        mov     dword [tss2 + TSS_SEGMENTS + 20], 0
        mov     word [tss2 + 0x66], 0x68
%endmacro

        REAL_MODE_START
        ENTER_PROTECTED_MODE
        mov     ax, TASK
        ltr     ax

; By jump and back.
        NEW_TASK by_jump
        mov     eax, 0x1234
        mov     ebx, 0x5678
        clts
        stc
        jmp     TASK2:0
back_from_jump:
        CHECK_FLAG c                    ; our flags came back
        CHECK   ebx, e, 0x5678
        CHECK   byte [task_descriptor + 5], e, 0x8B
        CHECK   byte [task2_descriptor + 5], e, 0x89
        mov     eax, cr0
        test    al, 8                   ; TS
        CHECK_FLAG nz
        clts

; By call: NT and the back link, and IRET returns.
        NEW_TASK by_call
        mov     esi, 0
        call    TASK2:0
        CHECK   byte [task_descriptor + 5], e, 0x8B
        CHECK   byte [task2_descriptor + 5], e, 0x89
        CHECK   dword [tss2 + TSS_EAX], e, 0xBBBB
        pushf
        pop     eax
        test    eax, 0x4000
        CHECK_FLAG z
        ; Called again it goes on behind its IRET.
        call    TASK2:0
        CHECK   dword [tss2 + TSS_EAX], e, 0xCCCC

; By a task gate in the interrupt table.
        NEW_TASK by_gate
        SET_GATE 0x40, TASK2, 0, 0x8500
        int     0x40
        CHECK   dword [tss2 + TSS_EAX], e, 0xDDDD

; A busy task cannot be jumped to; a task segment that is too small, one that is absent.
        FAULTS  13, TASK, jmp TASK:0
        mov     word [task2_descriptor], 0x66
        FAULTS  10, TASK2, jmp TASK2:0
        mov     word [task2_descriptor], 0x67
        and     byte [task2_descriptor + 5], 0x7F
        FAULTS  11, TASK2, jmp TASK2:0
        PASS

by_jump:
        CHECK   eax, e, 0xAAAA
        CHECK   esp, e, 0x6000
        CHECK   dword [tss + TSS_EAX], e, 0x1234
        CHECK   dword [tss + TSS_EIP], e, back_from_jump
        test    dword [tss + TSS_FLAGS], 1
        CHECK_FLAG nz
        CHECK   byte [task_descriptor + 5], e, 0x89
        CHECK   byte [task2_descriptor + 5], e, 0x8B
        str     ax
        CHECK   ax, e, TASK2
        jmp     TASK:0

by_call:
        CHECK   word [tss2], e, TASK    ; back link
        CHECK   byte [task_descriptor + 5], e, 0x8B
        CHECK   byte [task2_descriptor + 5], e, 0x8B
        pushf
        pop     eax
        test    eax, 0x4000
        CHECK_FLAG nz
        mov     eax, 0xBBBB
        iret
        mov     eax, 0xCCCC
        iret

by_gate:
        CHECK   word [tss2], e, TASK
        mov     eax, 0xDDDD
        iret
