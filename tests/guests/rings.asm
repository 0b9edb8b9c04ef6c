; Privilege: to ring 3 by IRET, back by an interrupt gate and by a call gate with parameters, the stack of the task
; state segment, what ring 3 may not do, the I/O map, conforming code. Source: Intel SDM 3A, chapters 5 and 6.

%include "report.inc"
%include "protected.inc"

USER_STACK equ 0x6000

; TO_USER label: IRET to ring 3.
%macro TO_USER 1
        push    dword USER_DATA
        push    dword USER_STACK
        push    dword [user_flags]
        push    dword USER_CODE
        push    dword %1
        mov     ax, USER_DATA
        mov     ds, ax
        mov     es, ax
        iret
%endmacro

; USER_FAULTS vector, error code, instruction: as FAULTS, in ring 3.
%macro USER_FAULTS 3+
        mov     dword [resume], %%after
        mov     [resume_esp], esp
        mov     dword [fault_vector], -1
        TO_USER %%at
%%at:   %3
        jmp     $
%%after:
        CHECK   dword [fault_vector], e, %1
        CHECK   dword [fault_error], e, %2
        CHECK   dword [fault_eip], e, %%at
        CHECK   dword [fault_cs], e, USER_CODE
        mov     dword [resume], 0
%endmacro

        REAL_MODE_START
        ENTER_PROTECTED_MODE
        mov     ax, TASK
        ltr     ax

; An interrupt gate: the stack is that of the task state segment and holds the outer one.
        SET_GATE 0x30, CODE32, gate_handler, 0xEE00
        TO_USER user1
user1:  mov     ebx, 0x1111
        stc
        int     0x30                    ; goes on at from_gate, in ring 0
after_int:
        jmp     $
gate_handler:
        CHECK   esp, e, 0x6C00 - 20
        CHECK   dword [esp], e, after_int
        CHECK   dword [esp + 4], e, USER_CODE
        test    dword [esp + 8], 1
        CHECK_FLAG nz
        CHECK   dword [esp + 12], e, USER_STACK
        CHECK   dword [esp + 16], e, USER_DATA
        mov     ax, cs
        CHECK   ax, e, CODE32
        mov     ax, ss
        CHECK   ax, e, DATA32
        mov     ax, ds                  ; data segments are left alone on the way in
        CHECK   ax, e, USER_DATA
        CHECK   ebx, e, 0x1111

; On the way out, segments ring 3 may not have become null.
        mov     ax, DATA32
        mov     ds, ax
        mov     es, ax
        mov     fs, ax
        mov     ax, USER_DATA
        mov     gs, ax
        SET_GATE 0x31, CODE32, gate_handler2, 0xEE00
        mov     dword [esp], user2
        iret
user2:  mov     eax, fs
        mov     ebx, gs
        mov     ecx, ds
        int     0x31
gate_handler2:
        CHECK   eax, e, 0
        CHECK   ebx, e, USER_DATA
        CHECK   ecx, e, 0
        mov     ax, DATA32
        mov     ds, ax
        mov     es, ax
        mov     esp, 0x7C00

; What ring 3 may not do.
        USER_FAULTS 13, 0, cli
        USER_FAULTS 13, 0, sti
        USER_FAULTS 13, 0, hlt
        USER_FAULTS 13, 0, in al, 0x80
        USER_FAULTS 13, 0, out 0xE9, al
        USER_FAULTS 13, 0, mov eax, cr0
        USER_FAULTS 13, 0, mov cr3, eax
        USER_FAULTS 13, 0, mov eax, dr7
        USER_FAULTS 13, 0, lgdt [gdtr]
        USER_FAULTS 13, 0, lidt [idtr]
        USER_FAULTS 13, 0, clts
        USER_FAULTS 13, 0, invlpg [0]
        USER_FAULTS 13, 0, rdmsr
        USER_FAULTS 13, 0, wbinvd
        USER_FAULTS 13, 0, lmsw ax
        USER_FAULTS 13, 8 * 0x20 + 2, int 0x20          ; a gate of ring 0
        USER_FAULTS 13, CODE32, jmp CODE32:0
        USER_FAULTS 13, TASK, call TASK:0
        USER_FAULTS 13, DATA32, mov es, [kernel_selector]
        USER_FAULTS 13, DATA32, mov ss, [kernel_selector]
        USER_FAULTS 6, 0, ud2
        USER_FAULTS 13, 0, mov eax, [fs:0]              ; null

; POPF in ring 3 changes neither IF nor IOPL, and faults not.
        SET_GATE 0x32, CODE32, gate_handler3, 0xEE00
        TO_USER user3
user3:  push    dword 0x3202
        popf
        pushf
        pop     eax
        int     0x32
gate_handler3:
        CHECK   eax, e, 2
        mov     ax, DATA32
        mov     ds, ax
        mov     es, ax
        mov     esp, 0x7C00

; The I/O map: port 0xE9 is allowed, its neighbours are not.
        mov     edi, tss + 0x68
        mov     ecx, 0x20
        mov     eax, 0xFF
        rep     stosb
        mov     byte [tss + 0x68 + 0xE9 / 8], ~(1 << (0xE9 % 8)) & 0xFF
        mov     byte [tss + 0x68 + 0x20], 0xFF
        mov     word [task_descriptor], 0x68 + 0x20
        mov     byte [task_descriptor + 5], 0x89
        mov     ax, TASK
        ltr     ax
        USER_FAULTS 13, 0, in al, 0xE8
        USER_FAULTS 13, 0, in ax, 0xE9
        SET_GATE 0x33, CODE32, gate_handler4, 0xEE00
        TO_USER user4
user4:  in      al, 0xE9
        int     0x33
gate_handler4:
        CHECK   al, e, 0xE9
        mov     ax, DATA32
        mov     ds, ax
        mov     es, ax
        mov     esp, 0x7C00

; IOPL 3 allows CLI and all ports.
        mov     dword [user_flags], 0x3002
        SET_GATE 0x34, CODE32, gate_handler5, 0xEE00
        TO_USER user5
user5:  in      al, 0xE8
        sti
        cli
        pushf
        pop     eax
        int     0x34
gate_handler5:
        and     eax, 0x3200
        CHECK   eax, e, 0x3000
        mov     ax, DATA32
        mov     ds, ax
        mov     es, ax
        mov     esp, 0x7C00
        mov     dword [user_flags], 2
        push    dword 2
        popf

; A call gate: two parameters are copied; RETF n takes them off both stacks.
        mov     eax, CODE32 << 16
        mov     ax, call_target
        mov     [gate_descriptor], eax
        mov     dword [gate_descriptor + 4], 0xEC02
        SET_GATE 0x35, CODE32, gate_handler6, 0xEE00
        TO_USER user6
user6:  push    dword 0x1234
        push    dword 0x5678
        call    GATE | 3:0
after_call:
        mov     ebx, esp
        mov     cx, cs
        mov     dx, ss
        int     0x35
call_target:
        CHECK   dword [esp], e, after_call
        CHECK   dword [esp + 4], e, USER_CODE
        CHECK   dword [esp + 8], e, 0x5678
        CHECK   dword [esp + 12], e, 0x1234
        CHECK   dword [esp + 16], e, USER_STACK - 8
        CHECK   dword [esp + 20], e, USER_DATA
        CHECK   esp, e, 0x6C00 - 24
        mov     eax, 0xCA11
        retf    8
gate_handler6:
        CHECK   eax, e, 0xCA11
        CHECK   ebx, e, USER_STACK
        CHECK   cx, e, USER_CODE
        CHECK   dx, e, USER_DATA
        mov     ax, DATA32
        mov     ds, ax
        mov     es, ax
        mov     esp, 0x7C00
        mov     dword [gate_descriptor + 4], 0x8C02     ; a gate of ring 0
        USER_FAULTS 13, GATE, call GATE | 3:0
        mov     dword [gate_descriptor + 4], 0x6C02     ; not present
        USER_FAULTS 11, GATE, call GATE | 3:0

; Conforming code keeps the caller's ring.
        mov     dword [spare_descriptor], 0x0000FFFF
        mov     dword [spare_descriptor + 4], 0x00CF9E00
        SET_GATE 0x36, CODE32, gate_handler7, 0xEE00
        TO_USER user7
user7:  call    SPARE:conforming
        int     0x36
conforming:
        mov     eax, cs
        retf
gate_handler7:
        CHECK   eax, e, SPARE | 3
        mov     ax, DATA32
        mov     ds, ax
        mov     es, ax
        mov     esp, 0x7C00

; A stack that cannot be used: invalid TSS.
        mov     dword [tss + 8], USER_DATA
        SET_GATE 8, TASK2, 0, 0x8500    ; should it go wrong: not silently
        mov     dword [tss + 8], DATA32
; The debug trap flag and RF, NT: IRET with NT and no back link is a fault of the task segment.
        mov     dword [tss], 0
        push    dword 0x4002
        popf
        FAULTS  10, 0, iret
        push    dword 2
        popf
; IRET to an outer ring with a null stack segment.
        push    dword 0
        push    dword USER_STACK
        push    dword 2
        push    dword USER_CODE
        push    dword user1
        FAULTS  13, 0, iret
        add     esp, 20
; IRET to an outer ring's code with an inner ring's stack.
        push    dword DATA32
        push    dword USER_STACK
        push    dword 2
        push    dword USER_CODE
        push    dword user1
        FAULTS  13, DATA32, iret
        add     esp, 20
        PASS

user_flags:     dd 2
kernel_selector: dw DATA32
