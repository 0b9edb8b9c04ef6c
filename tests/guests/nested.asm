; Exceptions while an exception or interrupt is delivered: which are served in turn and which make a double fault, the
; EXT bit of their error codes, stacks that cannot be used, double and stack faults through a task gate.
; Source: Intel SDM 3A, 6.5, 6.13 to 6.15 (interrupts 8, 10 to 14).

%include "report.inc"
%include "protected.inc"

DIRECTORY equ 0x10000
TABLE   equ 0x11000
HOLE    equ 0x80000                     ; a page that is not present
SMALL   equ SPARE                       ; a stack segment of 0x20 bytes
ABSENT  equ SPARE2                      ; code or data that is not present
BROKEN  equ 0x20                        ; the vector that is broken
TSS_EIP equ 0x20

; Restores the gate of a vector.
%macro MEND 1
        SET_GATE %1, CODE32, stubs + (%1) * STUB_BYTES, 0x8E00
%endmacro

        REAL_MODE_START
        ENTER_PROTECTED_MODE
        mov     dword [spare_descriptor], 0x6000 << 16 | 0x1F   ; base 0x6000, 0x20 bytes
        mov     dword [spare_descriptor + 4], 0x00409300
        mov     dword [spare2_descriptor], 0x0000FFFF
        mov     dword [spare2_descriptor + 4], 0x00CF1B00
        mov     ax, TASK
        ltr     ax

; An absent gate: of INT n and of an exception (EXT).
        SET_GATE BROKEN, CODE32, stubs, 0x0E00
        FAULTS  11, BROKEN * 8 + 2, int BROKEN
        SET_GATE 6, CODE32, stubs, 0x0E00
        FAULTS  11, 6 * 8 + 3, ud2
        SET_GATE 3, CODE32, stubs, 0x0E00
        FAULTS  11, 3 * 8 + 2, int3
        SET_GATE 1, CODE32, stubs, 0x0E00
        FAULTS  11, 1 * 8 + 3, db 0xF1  ; INT1 counts as external
        MEND    1
        MEND    3
; No gate at all, a gate beyond the table's limit.
        mov     dword [IDT + 8 * 6 + 4], 0
        FAULTS  13, 6 * 8 + 3, ud2
        mov     dword [IDT + 8 * 6 + 4], 0x8C00 ; a call gate
        FAULTS  13, 6 * 8 + 3, ud2
        mov     dword [IDT + 8 * BROKEN + 4], 0
        FAULTS  13, BROKEN * 8 + 2, int BROKEN
        FAULTS  13, 0xF0 * 8 + 2, int 0xF0      ; never written: zero
        mov     word [idtr], 8 * BROKEN + 6     ; the last byte is missing
        lidt    [idtr]
        SET_GATE BROKEN, CODE32, stubs, 0x8E00
        FAULTS  13, BROKEN * 8 + 2, int BROKEN
        mov     word [idtr], 8 * BROKEN + 7
        lidt    [idtr]
        SET_GATE BROKEN, CODE32, stubs + BROKEN * STUB_BYTES, 0x8E00
        TRAPS   BROKEN, int BROKEN
        mov     word [idtr], 256 * 8 - 1
        lidt    [idtr]
; Gates to no code.
        SET_GATE 6, NULL_SELECTOR, stubs, 0x8E00
        FAULTS  13, 1, ud2
        SET_GATE BROKEN, NULL_SELECTOR, stubs, 0x8E00
        FAULTS  13, 0, int BROKEN
        SET_GATE 6, 0x1000, stubs, 0x8E00
        FAULTS  13, 0x1001, ud2
        SET_GATE 6, 0x1000 | 4, stubs, 0x8E00   ; no LDT
        FAULTS  13, 0x1005, ud2
        SET_GATE 6, DATA32, stubs, 0x8E00
        FAULTS  13, DATA32 | 1, ud2
        SET_GATE 6, USER_CODE, stubs, 0x8E00    ; outward
        FAULTS  13, USER_CODE & ~3 | 1, ud2
        SET_GATE 6, ABSENT, stubs, 0x8E00
        FAULTS  11, ABSENT | 1, ud2
        SET_GATE BROKEN, ABSENT, stubs, 0x8E00
        FAULTS  11, ABSENT, int BROKEN
        SET_GATE 6, CODE16, stubs + 0x10000, 0x8E00     ; beyond the segment's limit
        mov     word [IDT + 8 * 6 + 6], 1
        FAULTS  13, 1, ud2
        MEND    6

; Contributory upon contributory: a double fault, with error code 0, at the first one's instruction.
        mov     dword [IDT + 8 * 0 + 4], 0
        xor     ecx, ecx
        FAULTS  8, 0, div ecx
        SET_GATE 0, ABSENT, stubs, 0x8E00
        FAULTS  8, 0, div ecx
        SET_GATE 0, NULL_SELECTOR, stubs, 0x8E00
        FAULTS  8, 0, div ecx
        MEND    0
        mov     dword [IDT + 8 * 13 + 4], 0
        FAULTS  8, 0, mov dword [cs:0], 0
        SET_GATE 6, NULL_SELECTOR, stubs, 0x8E00        ; benign, contributory, contributory
        FAULTS  8, 0, ud2
        MEND    13
        MEND    6
        mov     dword [IDT + 8 * 11 + 4], 0
        mov     ax, ABSENT
        FAULTS  8, 0, mov fs, ax
        MEND    11
; INT 8 is no double fault, and neither is INT 13 a contributory one.
        mov     dword [IDT + 8 * 13 + 4], 0x0E00
        SET_GATE 11, CODE32, stubs + 11 * STUB_BYTES, 0x8E00
        FAULTS  11, 13 * 8 + 2, int 13
        MEND    13
        mov     dword [IDT + 8 * 8 + 4], 0x0E00
        FAULTS  11, 8 * 8 + 2, int 8
        MEND    8

; Page faults: after a page fault any of them is a double fault; after a contributory one a page fault is served.
        mov     edi, DIRECTORY
        mov     ecx, 1024
        xor     eax, eax
        rep     stosd
        mov     ecx, 1024
        mov     eax, 7
.fill:  stosd
        add     eax, 0x1000
        loop    .fill
        mov     dword [DIRECTORY], TABLE | 7
        and     dword [TABLE + HOLE / 0x1000 * 4], ~1
        mov     eax, DIRECTORY
        mov     cr3, eax
        mov     eax, cr0
        or      eax, 0x80000000
        mov     cr0, eax
        mov     dword [IDT + 8 * 14 + 4], 0
        FAULTS  8, 0, mov eax, [HOLE + 0x123]
        CHECK   dword [fault_cr2], e, HOLE + 0x123
        MEND    14
        ; Part of the descriptor table lies in the hole.
        mov     esi, gdt
        mov     edi, HOLE - 8
        sub     edi, SMALL
        mov     ecx, gdt_end - gdt
        mov     eax, edi
        or      dword [TABLE + HOLE / 0x1000 * 4], 1
        rep     movsb
        and     dword [TABLE + HOLE / 0x1000 * 4], ~1
        invlpg  [HOLE]
        mov     [gdtr + 2], eax
        lgdt    [gdtr]
        SET_GATE 0, ABSENT, stubs, 0x8E00       ; its descriptor is at HOLE
        xor     ecx, ecx
        FAULTS  14, 0, div ecx
        CHECK   dword [fault_cr2], e, HOLE
        SET_GATE 6, ABSENT, stubs, 0x8E00
        FAULTS  14, 0, ud2
        SET_GATE 14, ABSENT, stubs, 0x8E00
        FAULTS  8, 0, mov eax, [HOLE + 0x456]
        CHECK   dword [fault_cr2], e, HOLE      ; the second one's
        FAULTS  8, 0, ud2
        MEND    0
        MEND    6
        MEND    14
        mov     dword [gdtr + 2], gdt
        lgdt    [gdtr]
        ; The stack lies in the hole: the page fault has no stack either. A task gate gives one.
        mov     ebx, .hole
        call    new_task
        SET_GATE 8, TASK2, 0, 0x8500
        mov     esp, HOLE + 0x800
.hole_at:
        mov     eax, [HOLE + 0x900]
        FAIL
.hole:  CHECK   dword [tss + TSS_EIP], e, .hole_at
        CHECK   dword [tss + 0x38], e, HOLE + 0x800
        CHECK   esp, e, 0x6000 - 4
        CHECK   dword [esp], e, 0       ; the error code
        CHECK   word [tss2], e, TASK
        CHECK   byte [task_descriptor + 5], e, 0x8B
        CHECK   byte [task2_descriptor + 5], e, 0x8B
        pushf
        pop     eax
        test    eax, 0x4000
        CHECK_FLAG nz
        mov     dword [tss + TSS_EIP], .returned        ; the abort goes on elsewhere
        add     esp, 4
        iret
.returned:
        CHECK   esp, e, HOLE + 0x800
        mov     esp, 0x7C00
        CHECK   byte [task_descriptor + 5], e, 0x8B
        CHECK   byte [task2_descriptor + 5], e, 0x89
        MEND    8

; A stack of the same ring without room: #SS(0) with EXT, which has no room either: a task gate again.
        mov     ebx, .small
        call    new_task
        SET_GATE 12, TASK2, 0, 0x8500
        mov     ax, SMALL
        mov     ss, ax
        mov     esp, 8
.small_at:
        ud2
.small: CHECK   dword [tss + TSS_EIP], e, .small_at
        CHECK   dword [esp], e, 1
        mov     dword [tss + TSS_EIP], .small2
        mov     dword [tss2 + 0x20], .pushed
        add     esp, 4
        iret                            ; and comes back below: IRET saves where it was
        jmp     .pushed
.small2:
        CHECK   esp, e, 8
        sub     esp, 4
        push    eax
.push_at:
        push    eax
        FAIL
.pushed:
        CHECK   dword [tss + TSS_EIP], e, .push_at
        CHECK   dword [esp], e, 0
        mov     dword [tss + TSS_EIP], .small3
        add     esp, 4
        iret
.small3:
        CHECK   esp, e, 0
        mov     ax, DATA32
        mov     ss, ax
        mov     esp, 0x7C00
        MEND    12

; Segments that are not present, by instruction.
        mov     ax, ABSENT
        FAULTS  11, ABSENT, mov ds, ax
        mov     dword [spare2_descriptor + 4], 0x00CF1300       ; data
        FAULTS  11, ABSENT, mov es, ax
        FAULTS  12, ABSENT, mov ss, ax
        push    dword ABSENT
        FAULTS  12, ABSENT, pop ss
        add     esp, 4
        and     byte [ldt_descriptor + 5], 0x7F
        mov     ax, LDT
        FAULTS  11, LDT, lldt ax
        and     byte [task2_descriptor + 5], 0x7F
        mov     ax, TASK2
        FAULTS  11, TASK2, ltr ax
        mov     ax, TASK
        FAULTS  13, TASK, ltr ax        ; busy

; From ring 3 onto an inner stack that is none; the fault is served in ring 1. EXT tells exceptions from INT n.
        mov     esi, rings
        mov     edi, ldt
        mov     ecx, 4
        rep     movsd
        or      byte [ldt_descriptor + 5], 0x80
        mov     ax, LDT
        lldt    ax
        mov     dword [tss + 12], 0x6800
        mov     dword [tss + 16], STACK1
        SET_GATE 10, CODE1, handler10, 0x8E00
        SET_GATE 12, CODE1, handler12, 0x8E00
        SET_GATE 0x31, CODE32, from_ring1, 0xAE00
        SET_GATE BROKEN, CODE32, stubs + BROKEN * STUB_BYTES, 0xEE00
%macro BAD_STACK 4+
        mov     dword [resume], %%after
        mov     [resume_esp], esp
        mov     dword [fault_vector], -1
        mov     dword [tss + 8], %1
        push    dword USER_DATA
        push    dword 0x6000
        push    dword USER_CODE
        push    dword %%at
        retf
%%at:   %4
        jmp     $
%%after:
        CHECK   dword [fault_vector], e, %2
        CHECK   dword [fault_error], e, %3
        CHECK   dword [fault_eip], e, %%at
%endmacro
        BAD_STACK NULL_SELECTOR, 10, 0, int BROKEN
        BAD_STACK NULL_SELECTOR, 10, 1, ud2
        BAD_STACK CODE32, 10, CODE32, int BROKEN
        BAD_STACK CODE32, 10, CODE32 | 1, ud2
        BAD_STACK USER_DATA, 10, USER_DATA & ~3, int BROKEN
        BAD_STACK ABSENT, 12, ABSENT, int BROKEN
        BAD_STACK ABSENT, 12, ABSENT | 1, ud2
        mov     dword [tss + 4], 0x10
        BAD_STACK SMALL, 12, SMALL, int BROKEN
        mov     dword [tss + 4], 0x10
        BAD_STACK SMALL, 12, SMALL | 1, ud2
        mov     dword [tss + 8], DATA32
        mov     dword [tss + 4], 0x6C00
        ; Two of them: a general protection fault cannot be served on it either.
        mov     dword [fault_vector], -1
        SET_GATE 8, CODE1, handler8, 0x8E00
        BAD_STACK CODE32, 8, 0, hlt
        PASS

; A task that begins at EBX with a stack of its own.
new_task:
        mov     edi, tss2
        mov     ecx, 0x68 / 4
        xor     eax, eax
        rep     stosd
        mov     [tss2 + TSS_EIP], ebx
        mov     dword [tss2 + 0x1C], DIRECTORY
        mov     dword [tss2 + 0x24], 2
        mov     dword [tss2 + 0x38], 0x6000
        mov     dword [tss2 + 0x48], DATA32
        mov     dword [tss2 + 0x4C], CODE32
        mov     dword [tss2 + 0x50], DATA32
        mov     dword [tss2 + 0x54], DATA32
        mov     word [tss2 + 0x66], 0x68
        mov     dword [tss + 0x1C], DIRECTORY
        and     byte [task2_descriptor + 5], ~2
        ret

CODE1   equ 0 | 4
STACK1  equ 8 | 5
rings:  DESCRIPTOR 0, 0xFFFFF, 0xBB, 0xC
        DESCRIPTOR 0, 0xFFFFF, 0xB3, 0xC

; In ring 1: hands over to ring 0, whose stack is good again by then.
handler8:
        push    dword 8
        jmp     ring1_common
handler10:
        push    dword 10
        jmp     ring1_common
handler12:
        push    dword 12
ring1_common:
        mov     ax, STACK1
        mov     ds, ax
        mov     dword [tss + 8], DATA32
        mov     dword [tss + 4], 0x6C00
        int     0x31
from_ring1:
        mov     ax, DATA32
        mov     ds, ax
        mov     ebx, [esp + 12]         ; the stack of ring 1: vector, error code, EIP
        mov     eax, [ebx]
        mov     [fault_vector], eax
        mov     eax, [ebx + 4]
        mov     [fault_error], eax
        mov     eax, [ebx + 8]
        mov     [fault_eip], eax
        mov     esp, [resume_esp]
        jmp     [resume]
