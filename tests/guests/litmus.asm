; Memory between processors: locked instructions are atomic (also across cache lines and pages), total store order
; keeps what it promises (message passing, store buffering with a fence, load buffering, 2+2W), and locks are handed
; on though their holders wait for a host processor. Sources: Intel SDM 3A, 9.1.2, 9.2.2, 9.2.3.
;
; The byte at 2 of the image is the number of processors.

%include "report.inc"
        jmp     short start
cpus:   db      2
        db      0, 0, 0
OTHER_START equ 0x9000                  ; a page boundary below 1 MiB: where the others begin
%include "smp.inc"

ROUNDS  equ 3000
TICKETS equ 30
REPEATS   equ 6                           ; each litmus test, with TRIALS pairs of variables
TRIALS  equ 0x1000
X       equ 0                           ; offsets in ES of TRIALS dwords each
Y       equ 0x4000
R1      equ 0x8000
R2      equ 0xC000
VARIABLES equ 0x2000                    ; a segment

IN_LINE equ 0x3000                      ; counters: all of them in a line, or across
OVER_LINE equ 0x303E
OVER_PAGE equ 0x3FFE
EIGHT   equ 0x3080
EIGHT_OVER equ 0x30BC

; BARRIER: all processors come here. EBP is how many arrivals the last one took.
%macro BARRIER 0
        call    barrier
%endmacro

; LITMUS name: with routines name_0 and name_1, which do one trial at SI on two processors, and name_check, which
; fails on what may not be.
%macro LITMUS 1
        mov     word [role_0], %1_0
        mov     word [role_1], %1_1
        mov     word [role_check], %1_check
        call    litmus
%endmacro

start:  cli
        cld
        xor     ax, ax
        mov     ds, ax
        mov     ss, ax
        mov     sp, 0x7C00
        OUT8    0x21, 0xFF
        OUT8    0xA1, 0xFF
        reach_apic
        mov     edi, IN_LINE
        mov     cx, 0x1100 / 4
        xor     eax, eax
        mov     es, ax
        rep     stosd
        call    start_others
        mov     ecx, PATIENCE
.gather:
        in      al, 0x80
        movzx   eax, byte [cpus]
        dec     eax
        cmp     [alive], eax
        je      .all
        dec     ecx
        jnz     .gather
        FAIL
.all:   mov     byte [stage], 1
        xor     ebx, ebx
        call    work

        movzx   eax, byte [cpus]
        imul    eax, eax, ROUNDS
        CHECK   [IN_LINE], e, eax
        CHECK   [IN_LINE + 4], e, eax
        CHECK   [IN_LINE + 8], e, eax
        CHECK   [IN_LINE + 12], e, eax
        CHECK   [IN_LINE + 16], e, eax
        CHECK   [OVER_LINE], e, eax
        CHECK   [OVER_PAGE], e, eax
        CHECK   [EIGHT], e, eax
        CHECK   [EIGHT_OVER], e, eax
        mov     edx, eax
        not     edx
        CHECK   [EIGHT + 4], e, edx
        CHECK   [EIGHT_OVER + 4], e, edx
        movzx   eax, byte [cpus]
        imul    eax, eax, TICKETS
        CHECK   [served], e, eax
        CHECK   [serving], e, eax
        mov     si, text_stored
        mov     eax, [reordered]
        call    tell
        OUT8    0xE9, 10
        PASS

; What every processor does; EBX is its number.
work:   push    ebx
        xor     ebp, ebp
        BARRIER
        mov     ecx, ROUNDS
.count: lock inc dword [IN_LINE]
        mov     eax, 1
        lock xadd [IN_LINE + 4], eax
        mov     eax, [IN_LINE + 8]
.again: lea     edx, [eax + 1]
        lock cmpxchg [IN_LINE + 8], edx
        jnz     .again
        lock add dword [OVER_LINE], 1
        lock inc dword [OVER_PAGE]
        push    ecx
        mov     si, EIGHT
        call    add_eight
        mov     si, EIGHT_OVER
        call    add_eight
        pop     ecx
.bit:   lock bts dword [bit_lock], 7
        jc      .bit
        inc     dword [IN_LINE + 12]
        lock btr dword [bit_lock], 7
.swap:  mov     al, 1
        xchg    [swap_lock], al
        test    al, al
        jnz     .swap
        inc     dword [IN_LINE + 16]
        mov     byte [swap_lock], 0
        dec     ecx
        jnz     .count

; In turns, with no PAUSE: whoever has the turn may be waiting for a host processor.
        BARRIER
        mov     ecx, TICKETS
.ticket:
        mov     eax, 1
        lock xadd [ticket], eax
.turn:  cmp     [serving], eax
        jne     .turn
        inc     dword [served]
        inc     dword [serving]
        dec     ecx
        jnz     .ticket

        mov     ax, VARIABLES
        mov     es, ax
        LITMUS  message
        LITMUS  store_fenced
        LITMUS  store_swapped
        LITMUS  store_plain
        LITMUS  load
        LITMUS  two_writes
        LITMUS  same_place
        BARRIER
        pop     ebx
        ret

; Low half one more, high half its complement, at SI.
add_eight:
        mov     eax, [si]
        mov     edx, [si + 4]
.again: lea     ebx, [eax + 1]
        mov     ecx, ebx
        not     ecx
        lock cmpxchg8b [si]
        jnz     .again
        ret

barrier:
        push    eax
        movzx   eax, byte [cpus]
        add     ebp, eax
        pop     eax
        lock inc dword [arrived]
.wait:  pause
        cmp     [arrived], ebp
        jb      .wait
        ret

; Runs the two roles REPEATS times. The processor's number is above the return address.
litmus: mov     bx, sp
        mov     ebx, [ss:bx + 2]
        mov     cx, REPEATS
.time:  push    cx
        test    ebx, ebx
        jnz     .clear_done
        xor     di, di
        xor     eax, eax
        mov     cx, 0x4000
        rep     stosd
.clear_done:
        BARRIER
        mov     dx, [role_0]
        cmp     ebx, 1
        jb      .go
        ja      .none
        mov     dx, [role_1]
.go:    xor     si, si
        mov     cx, TRIALS
.trial: call    dx
        add     si, 4
        loop    .trial
.none:  BARRIER
        test    ebx, ebx
        jnz     .checked
        xor     si, si
        mov     cx, TRIALS
.check: call    [role_check]
        add     si, 4
        loop    .check
.checked:
        BARRIER
        pop     cx
        loop    .time
        BARRIER
        ret

; Message passing: who sees the flag sees the message.
message_0:
        mov     dword [es:si + X], 1
        mov     dword [es:si + Y], 1
        ret
message_1:
        mov     eax, [es:si + Y]
        mov     edi, [es:si + X]
        jmp     near both_results
message_check:
        cmp     dword [es:si + R1], 1
        jne     .good
        CHECK   dword [es:si + R2], e, 1
.good:  ret
both_results:
        mov     [es:si + R1], eax
        mov     [es:si + R2], edi
        ret

; Store buffering: with a fence between, one of the two sees the other's store.
store_fenced_0:
        mov     dword [es:si + X], 1
        lock or dword [esp], 0
        mov     eax, [es:si + Y]
        mov     [es:si + R1], eax
        ret
store_fenced_1:
        mov     dword [es:si + Y], 1
        lock or dword [esp], 0
        mov     eax, [es:si + X]
        mov     [es:si + R2], eax
        ret
store_fenced_check:
store_swapped_check:
        mov     eax, [es:si + R1]
        or      eax, [es:si + R2]
        CHECK   eax, e, 1
        ret
store_swapped_0:
        mov     eax, 1
        xchg    [es:si + X], eax
        mov     eax, [es:si + Y]
        mov     [es:si + R1], eax
        ret
store_swapped_1:
        mov     eax, 1
        xchg    [es:si + Y], eax
        mov     eax, [es:si + X]
        mov     [es:si + R2], eax
        ret
; Without one both may read zero: counted, not judged.
store_plain_0:
        mov     dword [es:si + X], 1
        mov     eax, [es:si + Y]
        mov     [es:si + R1], eax
        ret
store_plain_1:
        mov     dword [es:si + Y], 1
        mov     eax, [es:si + X]
        mov     [es:si + R2], eax
        ret
store_plain_check:
        mov     eax, [es:si + R1]
        or      eax, [es:si + R2]
        jnz     .seen
        inc     dword [reordered]
.seen:  ret

; Load buffering: a load is not later than the stores after it.
load_0: mov     eax, [es:si + X]
        mov     dword [es:si + Y], 1
        mov     [es:si + R1], eax
        ret
load_1: mov     eax, [es:si + Y]
        mov     dword [es:si + X], 1
        mov     [es:si + R2], eax
        ret
load_check:
        mov     eax, [es:si + R1]
        and     eax, [es:si + R2]
        CHECK   eax, e, 0
        ret

; 2+2W: stores of each in order, and all agree on one order.
two_writes_0:
        mov     dword [es:si + X], 1
        mov     dword [es:si + Y], 2
        ret
two_writes_1:
        mov     dword [es:si + Y], 1
        mov     dword [es:si + X], 2
        ret
two_writes_check:
        cmp     dword [es:si + X], 1
        jne     .good
        CHECK   dword [es:si + Y], ne, 1
.good:  ret

; One place: a later read is not older; and a value is never in pieces (across a line it may be).
same_place_0:
        mov     dword [es:si + X], 0x01010101
        mov     dword [es:si + X], 0x02020202
        ret
same_place_1:
        mov     eax, [es:si + X]
        mov     edi, [es:si + X]
        jmp     near both_results
same_place_check:
        mov     eax, [es:si + R1]
        cmp     eax, [es:si + R2]
        jbe     .order
        FAIL
.order: imul    edx, eax, 1
        and     edx, 0xFF
        imul    edx, edx, 0x01010101
        CHECK   eax, e, edx
        ret

        smp_routines

text_stored:    db "stores seen late ", 0
        align   4
alive:          dd 0
arrived:        dd 0
bit_lock:       dd 0
ticket:         dd 0
serving:        dd 0
served:         dd 0
reordered:      dd 0
role_0:         dw 0
role_1:         dw 0
role_check:     dw 0
swap_lock:      db 0
stage:          db 0

; The others begin here, in real mode.
        times   OTHER_START - ($ - $$) - 0x7C00 db 0
        cli
        jmp     0:.segment_0
.segment_0:
        cld
        xor     ax, ax
        mov     ds, ax
        mov     ss, ax
        reach_apic
        mov     ebx, 1
        lock xadd [started], ebx
        mov     ax, bx
        shl     ax, 8
        add     ax, STACKS + 0x100
        mov     sp, ax
        inc     ebx
        lock inc dword [alive]
.wait:  pause
        cmp     byte [stage], 1
        jne     .wait
        call    work
.sleep: hlt
        jmp     .sleep
started:        dd 0
