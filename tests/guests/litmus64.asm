; Memory between processors in 64-bit mode: CMPXCHG16B is atomic, and its failing reads are never in pieces; and a
; translation that one processor changes is gone from the others once they have answered its interprocessor
; interrupt with INVLPG ("shootdown"). Sources: Intel SDM 3A, 5.10.5, 9.1.2, 9.4; SDM 2A, CMPXCHG16B.
;
; The byte at 2 of the image is the number of processors.

%include "report.inc"
        jmp     short start
cpus:   db      2
        db      0, 0, 0
start:
%include "protected.inc"
%include "long.inc"

APIC    equ 0xFEE00000                  ; RDI, everywhere
APIC_EOI equ 0xB0
APIC_SPURIOUS equ 0xF0
APIC_COMMAND equ 0x300
OTHERS  equ 0xC0000                     ; destination shorthand
INIT    equ 0x4500
STARTUP equ 0x4600
SHOOT   equ 0x38                        ; the vector

STACKS  equ 0x40000                     ; 4 KiB for each, from here on
PAGE_A  equ 0x30000
PAGE_B  equ 0x31000
SEEN    equ 0x1000000                   ; one of them, by FINE
PAIR    equ 0x32000                     ; changed by CMPXCHG16B: low half counts, high half is its complement
ROUNDS  equ 5000
SHOTS   equ 300

; UNTIL operand, condition, value: waits for the others, who may be waiting for a host processor.
%macro UNTIL 3
%%wait: pause
        cmp     %1, %3
        jn%2    %%wait
%endmacro

        REAL_MODE_START
        ENTER_PROTECTED_MODE
        ENTER_LONG_MODE
        OUT8    0x21, 0xFF
        OUT8    0xA1, 0xFF
        SET_GATE64 SHOOT, shot, 0x8E, 0
        SET_GATE64 0x3F, spurious, 0x8E, 0
        mov     qword [DIRECTORIES + 8 * 8], FINE | 7   ; 16 MiB
        mov     dword [PAGE_A], 0xAAAA
        mov     dword [PAGE_B], 0xBBBB
        mov     qword [FINE], PAGE_A | 7
        mov     qword [PAIR], 0
        mov     qword [PAIR + 8], -1
        mov     edi, APIC
        mov     dword [rdi + APIC_SPURIOUS], 0x13F
        mov     dword [rdi + APIC_COMMAND], OTHERS | INIT
        call    pass_time
        mov     dword [rdi + APIC_COMMAND], OTHERS | STARTUP | OTHER_START >> 12
        call    pass_time
        mov     dword [rdi + APIC_COMMAND], OTHERS | STARTUP | OTHER_START >> 12
        movzx   ebx, byte [cpus]
        dec     ebx
        UNTIL   dword [alive], e, ebx
        mov     byte [stage], 1
        call    count
        UNTIL   dword [counted], g, ebx
        movzx   eax, byte [cpus]
        imul    eax, eax, ROUNDS
        CHECK   qword [PAIR], e, rax
        not     rax
        CHECK   qword [PAIR + 8], e, rax

; Each time the page is another one. Odd generations see B, even ones A; 0: it is being changed.
        mov     esi, 1
.shoot: mov     dword [generation], 0
        mov     dword [answers], 0
        mov     eax, PAGE_A | 7
        test    esi, 1
        jz      .even
        mov     eax, PAGE_B | 7
.even:  mov     [FINE], rax
        invlpg  [SEEN]
        mov     dword [rdi + APIC_COMMAND], OTHERS | FIXED | SHOOT
        UNTIL   dword [answers], e, ebx
        mov     r8d, [checked]
        mov     [generation], esi
        lea     r8d, [r8 + rbx + 1]     ; those that had begun before, and one more
        UNTIL   dword [checked], ge, r8d
        inc     esi
        cmp     esi, SHOTS
        jbe     .shoot
        CHECK   dword [wrong], e, 0
        PASS

FIXED   equ 0x4000

; Some thousand port reads: milliseconds for a host that interprets.
pass_time:
        mov     ecx, 3000
.read:  in      al, 0x80
        dec     ecx
        jnz     .read
        ret

; What every processor does: ROUNDS times one more.
count:  push    rbx
        mov     r9d, ROUNDS
.next:  mov     rax, [PAIR]
        mov     rdx, [PAIR + 8]         ; of another time, maybe
.again: lea     rbx, [rax + 1]
        mov     rcx, rbx
        not     rcx
        lock cmpxchg16b [PAIR]
        jz      .done
        mov     r10, rax
        not     r10
        cmp     r10, rdx
        je      .again
        lock inc dword [wrong]
        FAIL
.done:  dec     r9d
        jnz     .next
        lock inc dword [counted]
        pop     rbx
        ret

shot:   invlpg  [SEEN]
        mov     dword [rdi + APIC_EOI], 0
        lock inc dword [answers]
        iretq
spurious:
        iretq

        align   4
alive:  dd 0
counted: dd 0
answers: dd 0
generation: dd 0
checked: dd 0
wrong:  dd 0
started: dd 0
stage:  db 0

; The others begin here, in real mode.
OTHER_START equ 0x9000
        times   OTHER_START - ($ - $$) - 0x7C00 db 0
        bits    16
        cli
        jmp     0:.segment_0
.segment_0:
        xor     ax, ax
        mov     ds, ax
        lgdt    [gdtr]
        mov     eax, cr0
        or      al, 1
        mov     cr0, eax
        jmp     CODE32:.protected
        bits    32
.protected:
        mov     ax, DATA32
        mov     ds, ax
        mov     es, ax
        mov     ss, ax
        mov     eax, cr4
        or      eax, 0x20
        mov     cr4, eax
        mov     eax, PML4
        mov     cr3, eax
        mov     ecx, 0xC0000080
        rdmsr
        or      eax, 0x100
        wrmsr
        mov     eax, cr0
        or      eax, 0x80000000
        mov     cr0, eax
        jmp     CODE64:.long
        bits    64
        default abs
.long:  lidt    [idtr64]
        mov     eax, 1
        lock xadd [started], eax
        inc     eax
        shl     eax, 12
        lea     rsp, [rax + STACKS + 0x1000]
        mov     edi, APIC
        mov     dword [rdi + APIC_SPURIOUS], 0x13F
        lock inc dword [alive]
.wait:  pause
        cmp     byte [stage], 1
        jne     .wait
        call    count
        sti
.look:  mov     eax, [generation]
        test    eax, eax
        jz      .pause
        mov     ecx, [SEEN]
        cmp     eax, [generation]
        jne     .pause
        mov     edx, 0xAAAA
        test    eax, 1
        jz      .even
        mov     edx, 0xBBBB
.even:  cmp     ecx, edx
        je      .right
        lock inc dword [wrong]
.right: lock inc dword [checked]
        jmp     .look
.pause: pause
        jmp     .look
