; Breakpoint registers on what touches memory in other ways than MOV: strings, two addresses in one instruction, the
; stack, read-modify-write, accesses across the watched bytes, x87 and SSE, ports (CR4.DE); breakpoints on code that
; repeats, loops and faults. Source: Intel SDM 3B, 18.2 and 18.3.1.

%include "report.inc"
%include "protected.inc"

AREA    equ 0x3000

; WATCH number, address, kind and length (four bits of DR7): and no other.
%macro WATCH 3
        mov     eax, %2
        mov     dr%1, eax
        mov     eax, 0x400 | 2 << (2 * %1) | (%3) << (16 + 4 * %1)
        mov     dr7, eax
        mov     dword [place], traps
%endmacro
WRITE1  equ 1
WRITE4  equ 0xD
ACCESS1 equ 3
ACCESS2 equ 7
ACCESS4 equ 0xF
EXECUTE equ 0
PORT1   equ 2
PORT2   equ 6
; TRAPPED (return address, DR6) ...: all traps since WATCH.
%macro TRAPPED 0-*
        mov     esi, traps
%rep %0 / 2
        CHECK   dword [esi], e, %1
        CHECK   dword [esi + 4], e, 0xFFFF0FF0 | (%2)
        add     esi, 8
%rotate 2
%endrep
        CHECK   [place], e, esi
%endmacro

        REAL_MODE_START
        ENTER_PROTECTED_MODE
        SET_GATE 1, CODE32, debug, 0x8E00
        SET_GATE 0x30, CODE32, interrupt, 0x8E00
        mov     eax, 0xFFFF0FF0
        mov     dr6, eax
        mov     eax, cr0
        and     eax, ~0xC
        mov     cr0, eax
        fninit

; Is there such a thing?
        WATCH   0, AREA, WRITE4
        mov     dword [AREA], eax
        nop
        cmp     dword [place], traps
        jne     .there_is
        END     251                     ; what runs this does not look at them
.there_is:

; Strings: the trap comes after the element, with the registers as far as they are.
        mov     edi, AREA
        mov     ecx, 16
        xor     eax, eax
        rep     stosd
        WATCH   0, AREA + 9, WRITE1
        mov     edi, AREA
        mov     ecx, 16
        mov     al, 0x55
a0:     rep     stosb
a1:     TRAPPED a0, 1
        CHECK   dword [seen_ecx], e, 6
        CHECK   dword [seen_edi], e, AREA + 10
        CHECK   dword [AREA + 12], e, 0x55555555
        WATCH   0, AREA + 8, WRITE4
        mov     edi, AREA
        mov     ecx, 8
b0:     rep     stosd
b1:     TRAPPED b0, 1
        CHECK   dword [seen_ecx], e, 5
        WATCH   0, AREA + 0x1C, WRITE4          ; the last element
        mov     edi, AREA
        mov     ecx, 8
c0:     rep     stosd
c1:     TRAPPED c1, 1
        ; Both operands, of different breakpoints, in one instruction: one trap with both bits.
        mov     eax, AREA
        mov     dr1, eax
        mov     eax, AREA + 0x20
        mov     dr2, eax
        mov     eax, 0x01300428         ; DR1: accesses; DR2: writes
        mov     dr7, eax
        mov     dword [place], traps
        mov     esi, AREA
        mov     edi, AREA + 0x20
d0:     movsb
d1:     TRAPPED d1, 6
        mov     dword [place], traps
        mov     esi, AREA - 1
        mov     edi, AREA + 0x1F
        mov     ecx, 3
d2:     rep     movsb
d3:     TRAPPED d2, 6
        CHECK   dword [seen_ecx], e, 1
        ; Reads by LODS, SCAS and CMPS.
        WATCH   3, AREA + 5, ACCESS1
        mov     esi, AREA
        mov     ecx, 8
e0:     rep     lodsb
e1:     TRAPPED e0, 8
        CHECK   dword [seen_ecx], e, 2
        mov     dword [place], traps
        mov     edi, AREA
        mov     ecx, 8
        mov     al, 0xEE
e2:     repne   scasb
e3:     TRAPPED e2, 8
        CHECK   dword [seen_ecx], e, 2
        mov     dword [place], traps
        mov     esi, AREA
        mov     edi, AREA
        mov     ecx, 8
e4:     repe    cmpsb
e5:     TRAPPED e4, 8
        CHECK   dword [seen_ecx], e, 2

; Any byte of an access, and none beside it; a word of a watched dword; across.
        WATCH   0, AREA + 4, ACCESS4
        mov     eax, [AREA]
        mov     eax, [AREA + 8]
        mov     al, [AREA + 3]
        TRAPPED
        mov     al, [AREA + 7]
f0:     TRAPPED f0, 1
        mov     dword [place], traps
        mov     eax, [AREA + 1]
f1:     mov     ax, [AREA + 7]
f2:     TRAPPED f1, 1, f2, 1
        ; The address is taken down to its length.
        WATCH   0, AREA + 6, WRITE4
        mov     byte [AREA + 4], 1
f3:     TRAPPED f3, 1
; Reading and writing at once: one trap.
        WATCH   0, AREA, ACCESS4
        inc     dword [AREA]
g0:     xchg    eax, [AREA]
g1:     lock xadd [AREA], eax
g2:     cmpxchg [AREA], eax
g3:     bts     dword [AREA], 3
g4:     TRAPPED g0, 1, g1, 1, g2, 1, g3, 1, g4, 1
; Nothing is touched by LEA, a NOP with an operand, or PREFETCH.
        mov     dword [place], traps
        lea     eax, [AREA]
        nop     dword [AREA]
        prefetchnta [AREA]
        TRAPPED
; The stack: PUSH, CALL, PUSHA. (What takes from it would have the trap's own frame there.)
        mov     ebp, esp
        WATCH   0, AREA + 0x3C, ACCESS4
        mov     esp, AREA + 0x40
        push    eax
h0:     mov     esp, AREA + 0x40
        call    h1
h1:     mov     esp, AREA + 0x40
        pusha
h2:     mov     esp, ebp
        TRAPPED h0, 1, h1, 1, h2, 1
; x87 and a jump through memory.
        WATCH   0, AREA + 4, ACCESS1
        fld1
        fstp    qword [AREA]
i0:     fild    qword [AREA]
i1:     fstp    st0
        mov     dword [AREA + 4], i2
        jmp     [AREA + 4]
i2:     TRAPPED i0, 1, i1, 1, i2 - 6, 1, i2, 1
; An instruction that faults has no traps: it was not completed.
        WATCH   0, AREA, ACCESS4
        mov     word [AREA], 8
        mov     dword [place], traps
        mov     dword [AREA], 0
        mov     dword [place], traps
        xor     edx, edx
        FAULTS  0, 0, div dword [AREA]
        TRAPPED

; Code: each time round a loop; a repeated instruction once; an instruction that faults once more after its handler
; has returned, not without.
        WATCH   0, j0, EXECUTE
        mov     ecx, 3
j0:     inc     eax
        loop    j0
        TRAPPED j0, 1, j0, 1, j0, 1
        WATCH   0, l0, EXECUTE
        mov     edi, AREA
        mov     ecx, 5
l0:     rep     stosb
        TRAPPED l0, 1
        CHECK   ecx, e, 0
        ; With the trap flag too: the breakpoint once, and a trap after each element.
        WATCH   0, m0, EXECUTE
        mov     edi, AREA
        mov     ecx, 3
        push    dword 0x102
        popf
m0:     rep     stosb
m1:     push    strict dword 2
        popf
m2:     TRAPPED m0, 1, m0, 0x4000, m0, 0x4000, m1, 0x4000, m2 - 1, 0x4000, m2, 0x4000
        ; A fault's saved RF lets the instruction begin again without its breakpoint.
        WATCH   0, n0, EXECUTE
        SET_GATE 0, CODE32, divided, 0x8E00
        mov     eax, 6
        xor     edx, edx
        xor     ecx, ecx
n0:     div     ecx
n1:     CHECK   eax, e, 2
        TRAPPED n0, 1

; Ports, with CR4.DE.
        mov     eax, cr4
        or      al, 8
        mov     cr4, eax
        WATCH   0, 0x80, PORT1
        in      al, 0x80
p0:     out     0x80, al
p1:     in      al, 0x84
        mov     eax, [0x80]             ; memory is no port
        TRAPPED p0, 1, p1, 1
        WATCH   0, 0xE8, PORT2
        in      al, 0xE9
q0:     mov     dx, 0xE9
        mov     edi, AREA
        mov     ecx, 2
q1:     rep     insb
q2:     TRAPPED q0, 1, q1, 1, q2, 1
        mov     eax, cr4
        and     al, ~8
        mov     cr4, eax
        PASS

; Notes where it was and DR6, clears that, and goes on with RF.
debug:  push    eax
        push    ebx
        mov     [seen_ecx], ecx
        mov     [seen_edi], edi
        mov     ebx, [place]
        mov     eax, [esp + 8]
        mov     [ebx], eax
        mov     eax, dr6
        mov     [ebx + 4], eax
        add     dword [place], 8
        test    eax, 0x4000
        jnz     .step                   ; its RF is what it should be
        or      dword [esp + 16], 0x10000
.step:  mov     eax, 0xFFFF0FF0
        mov     dr6, eax
        pop     ebx
        pop     eax
        iret
interrupt:
        iret
divided:
        test    dword [esp + 8], 0x10000        ; RF
        CHECK_FLAG nz
        mov     ecx, 3
        iret

        align   4
seen_ecx: dd    0
seen_edi: dd    0
place:  dd      traps
traps:  times 64 dd 0
