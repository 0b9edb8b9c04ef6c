; Far control transfers between rings beyond rings.asm: call gates of 16 bits, from a 16-bit stack, by JMP, to ring 1
; and to conforming code; what is wrong with a gate or with the inner stack, and its error code; RETF outward, which
; releases both stacks and nulls data segments. Source: Intel SDM 2, CALL and RET; 3A, 5.8.

%include "report.inc"
%include "protected.inc"

USER_STACK equ 0x6000
KERNEL_TOP equ 0x6C00
LDT_AT  equ 0x2000
STACK16 equ 0x08 | 7                    ; in the LDT: a 16-bit stack of ring 3
CONFORMING equ 0x10 | 4                 ; code of ring 0
CODE1   equ 0x18 | 4                    ; ring 1
STACK1  equ 0x20 | 5
ABSENT  equ 0x28 | 4                    ; code of ring 0 that is not present
ABSENT_STACK equ 0x30 | 4
SMALL   equ 0x38 | 4                    ; a stack of ring 0 with 0x10 bytes

; TO_USER label: to ring 3 by RETF.
%macro TO_USER 1
        push    dword USER_DATA
        push    dword USER_STACK
        push    dword USER_CODE
        push    dword %1
        retf
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

; CALL_GATE selector, offset, access byte, parameters: writes the descriptor at GATE. Destroys EAX.
%macro CALL_GATE 4
        mov     eax, (%1) << 16
        mov     ax, %2
        mov     [gate_descriptor], eax
        mov     dword [gate_descriptor + 4], (%3) << 8 | (%4)
%endmacro

; CHECK_IN_RING3 a, b: equal, or else a fault that nobody expects (ring 3 may not end the run).
%macro CHECK_IN_RING3 2
        cmp     %1, %2
        je      %%good
        hlt
%%good:
%endmacro

; BACK label: an interrupt of ring 3 that goes on here, in ring 0.
%macro BACK 1
        SET_GATE 0x30, CODE32, %1, 0xEE00
%endmacro
%macro RING_0 0
        mov     ax, DATA32
        mov     ds, ax
        mov     es, ax
        mov     ss, ax
        mov     esp, 0x7C00
%endmacro

        REAL_MODE_START
        ENTER_PROTECTED_MODE
        mov     esi, ldt_source
        mov     edi, LDT_AT
        mov     ecx, 16
        rep     movsd
        mov     dword [ldt_descriptor], LDT_AT << 16 | 0x3F
        mov     dword [ldt_descriptor + 4], 0x00008200
        mov     ax, LDT
        lldt    ax
        mov     dword [tss + 12], 0x6800        ; ring 1
        mov     dword [tss + 16], STACK1
        mov     ax, TASK
        ltr     ax

; RETF outward with parameters.
        BACK    returned
        push    dword USER_DATA
        push    dword USER_STACK - 8
        push    dword 0
        push    dword 0
        push    dword USER_CODE
        push    dword user_returned
        mov     ax, DATA32
        mov     es, ax
        mov     ax, CONFORMING
        mov     fs, ax
        mov     ax, USER_DATA
        mov     gs, ax
        retf    8
user_returned:
        mov     ebx, esp
        mov     ecx, ds
        mov     edx, es
        mov     esi, fs
        mov     edi, gs
        int     0x30
returned:
        RING_0
        CHECK   ebx, e, USER_STACK
        CHECK   cx, e, 0
        CHECK   dx, e, 0
        CHECK   si, e, CONFORMING
        CHECK   di, e, USER_DATA

; A gate of 16 bits pushes words, of 16-bit parameters as well; RETF of 16 bits goes back.
        CALL_GATE CODE32, gate16, 0xE4, 2
        BACK    gate16_done
        TO_USER gate16_user
gate16_user:
        push    word 0x1111
        push    word 0x2222
        call    GATE | 3:0
gate16_back:
        mov     ebx, esp
        mov     ecx, cs
        int     0x30
gate16: CHECK   esp, e, KERNEL_TOP - 12
        CHECK   word [esp], e, gate16_back
        CHECK   word [esp + 2], e, USER_CODE
        CHECK   word [esp + 4], e, 0x2222
        CHECK   word [esp + 6], e, 0x1111
        CHECK   word [esp + 8], e, USER_STACK - 4
        CHECK   word [esp + 10], e, USER_DATA
        o16 retf 4
gate16_done:
        RING_0
        CHECK   ebx, e, USER_STACK
        CHECK   cx, e, USER_CODE

; A gate of 32 bits from a 16-bit stack: SP alone finds the parameters.
        CALL_GATE CODE32, gate32, 0xEC, 3
        BACK    gate32_done
        push    dword STACK16
        push    dword 0xABCD0000 + 0xE100
        push    dword USER_CODE
        push    dword gate32_user
        retf
gate32_user:
        push    dword 0x11111111
        push    dword 0x22222222
        push    dword 0x33333333
        mov     eax, esp
        call    GATE | 3:0
gate32_back:
        mov     ebx, esp
        int     0x30
gate32: CHECK   esp, e, KERNEL_TOP - 28
        CHECK   dword [esp], e, gate32_back
        CHECK   word [esp + 4], e, USER_CODE
        CHECK   dword [esp + 8], e, 0x33333333
        CHECK   dword [esp + 12], e, 0x22222222
        CHECK   dword [esp + 16], e, 0x11111111
        CHECK   word [esp + 20], e, 0xE100 - 12
        CHECK   word [esp + 24], e, STACK16
        retf    12
gate32_done:
        RING_0
        CHECK   bx, e, 0xE100

; To ring 1 and back: its stack is the TSS's second.
        CALL_GATE CODE1, gate_ring1, 0xEC, 0
        BACK    ring1_done
        TO_USER ring1_user
ring1_user:
        call    GATE | 3:0
        mov     ebx, esp
        int     0x30
gate_ring1:
        mov     eax, cs
        CHECK   ax, e, CODE1 | 1
        mov     eax, ss
        CHECK   ax, e, STACK1
        CHECK   esp, e, 0x6800 - 16
        retf
ring1_done:
        RING_0
        CHECK   ebx, e, USER_STACK

; To conforming code: no other ring, no other stack, no parameters.
        CALL_GATE CONFORMING, gate_conforming, 0xEC, 5
        BACK    conforming_done
        TO_USER conforming_user
conforming_user:
        xor     ebp, ebp
        call    GATE | 3:0
conforming_back:
        push    dword USER_CODE         ; by JMP as well
        push    dword conforming_back
        jmp     GATE | 3:0
gate_conforming:
        mov     eax, cs
        CHECK_IN_RING3 ax, CONFORMING | 3
        CHECK_IN_RING3 word [esp], conforming_back
        CHECK_IN_RING3 word [esp + 4], USER_CODE
        CHECK_IN_RING3 esp, USER_STACK - 8
        inc     ebp
        cmp     ebp, 1
        jne     .second
        retf
.second:
        int     0x30
conforming_done:
        RING_0
        CHECK   ebp, e, 2

; JMP through a gate does not change rings; the instruction's own offset is ignored.
        CALL_GATE CODE32, gate16, 0xEC, 0
        USER_FAULTS 13, CODE32, jmp GATE | 3:0
        CALL_GATE CODE32, same_ring, 0x8C, 3
        jmp     GATE:0x12345678
        FAIL
same_ring:
        CHECK   esp, e, 0x7C00
        CALL_GATE CODE32, same_ring_called, 0x8C, 3
        call    GATE:0
.back:  FAIL
same_ring_called:
        CHECK   esp, e, 0x7C00 - 8
        CHECK   dword [esp], e, same_ring.back
        CHECK   word [esp + 4], e, CODE32
        mov     esp, 0x7C00

; Gates that lead nowhere.
        CALL_GATE NULL_SELECTOR, gate16, 0xEC, 0
        USER_FAULTS 13, 0, call GATE | 3:0
        CALL_GATE 0x1000, gate16, 0xEC, 0
        USER_FAULTS 13, 0x1000, call GATE | 3:0
        CALL_GATE DATA32, gate16, 0xEC, 0
        USER_FAULTS 13, DATA32, call GATE | 3:0
        CALL_GATE TASK, gate16, 0xEC, 0
        USER_FAULTS 13, TASK, call GATE | 3:0
        CALL_GATE ABSENT, gate16, 0xEC, 0
        USER_FAULTS 11, ABSENT, call GATE | 3:0
        CALL_GATE CODE16, 0x2345, 0xEC, 0
        mov     word [gate_descriptor + 6], 1   ; beyond the segment's limit
        USER_FAULTS 13, 0, call GATE | 3:0
        CALL_GATE CODE32, gate16, 0x8C, 0       ; the gate's own ring
        USER_FAULTS 13, GATE, call GATE | 3:0
        CALL_GATE CODE32, gate16, 0x6C, 0
        USER_FAULTS 11, GATE, call GATE | 3:0

; Inner stacks that are none.
        CALL_GATE CODE32, gate16, 0xEC, 0
%macro BAD_STACK 3
        mov     dword [tss + 8], %1
        USER_FAULTS_RING1 %2, %3, call GATE | 3:0
        mov     dword [tss + 8], DATA32
%endmacro
; The fault itself is taken in ring 1: ring 0's stack is the one that is wrong.
%macro USER_FAULTS_RING1 3+
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
        mov     dword [resume], 0
%endmacro
        SET_GATE 10, CODE1, ring1_handler10, 0x8E00
        SET_GATE 12, CODE1, ring1_handler12, 0x8E00
        SET_GATE 0x31, CODE32, from_ring1, 0xAE00
        BAD_STACK NULL_SELECTOR, 10, 0
        BAD_STACK 0x1000, 10, 0x1000
        BAD_STACK STACK1 & ~3, 10, STACK1 & ~3 ; of another ring
        BAD_STACK STACK1, 10, STACK1 & ~3
        BAD_STACK CODE32, 10, CODE32
        BAD_STACK ABSENT_STACK, 12, ABSENT_STACK
        mov     dword [tss + 4], 8              ; no room for SS, ESP, CS and EIP
        BAD_STACK SMALL, 12, SMALL
        mov     dword [tss + 4], KERNEL_TOP
        SET_GATE 10, CODE32, stubs + 10 * STUB_BYTES, 0x8E00
        SET_GATE 12, CODE32, stubs + 12 * STUB_BYTES, 0x8E00

; RETF where it may not go.
%macro RETURN_FAULTS 4
        push    dword %4                ; SS
        push    dword USER_STACK
        push    dword %3                ; CS
        push    dword user_returned
        FAULTS  %1, %2, retf
        add     esp, 16
%endmacro
        RETURN_FAULTS 13, 0, NULL_SELECTOR, USER_DATA
        RETURN_FAULTS 13, DATA32, DATA32, USER_DATA
        RETURN_FAULTS 13, USER_CODE & ~3, USER_CODE & ~3, USER_DATA     ; DPL 3 code at RPL 0
        RETURN_FAULTS 11, ABSENT, ABSENT, USER_DATA
        RETURN_FAULTS 13, 0, USER_CODE, NULL_SELECTOR
        RETURN_FAULTS 13, DATA32, USER_CODE, DATA32
        RETURN_FAULTS 13, 0x1000, USER_CODE, 0x1003
; Nor inward from ring 3.
        BACK    inward_done
        mov     dword [resume], inward_done
        mov     dword [resume_esp], 0x7C00
        TO_USER inward_user
inward_user:
        push    dword CODE32
        push    dword 0
inward_at:
        retf
inward_done:
        CHECK   dword [fault_vector], e, 13
        CHECK   dword [fault_error], e, CODE32
        CHECK   dword [fault_eip], e, inward_at
        PASS

; In ring 1: hands over to ring 0, whose stack is good again by then.
ring1_handler10:
        push    dword 10
        jmp     ring1_common
ring1_handler12:
        push    dword 12
ring1_common:
        mov     ax, STACK1
        mov     ds, ax
        mov     es, ax
        mov     dword [tss + 8], DATA32
        mov     dword [tss + 4], KERNEL_TOP
        int     0x31
from_ring1:
        mov     ax, DATA32
        mov     ds, ax
        mov     es, ax
        les     ebx, [esp + 12]         ; the stack of ring 1: vector, error code, EIP
        mov     eax, [ebx]
        mov     [fault_vector], eax
        mov     eax, [ebx + 4]
        mov     [fault_error], eax
        mov     eax, [ebx + 8]
        mov     [fault_eip], eax
        mov     ax, DATA32
        mov     es, ax
        mov     esp, [resume_esp]
        jmp     [resume]

        align   8
ldt_source:
        dq      0
        DESCRIPTOR 0x20000, 0xFFFF, 0xF3, 0
        DESCRIPTOR 0, 0xFFFFF, 0x9F, 0xC
        DESCRIPTOR 0, 0xFFFFF, 0xBB, 0xC
        DESCRIPTOR 0, 0xFFFFF, 0xB3, 0xC
        DESCRIPTOR 0, 0xFFFFF, 0x1B, 0xC
        DESCRIPTOR 0, 0xFFFFF, 0x13, 0xC
        DESCRIPTOR 0x6000, 0x0F, 0x93, 4
