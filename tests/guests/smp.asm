; Multiprocessor test guest: starts all other processors by INIT and STARTUP through the local APIC, has all
; of them count together under bus locks, exchanges interprocessor interrupts and NMIs with them, and
; sends them back to INIT to start them once more. It tells what it found on the debug console, one line,
; and ends by the debug exit port: 0x2A if all was as it must be, 0xEE otherwise.
;
; It stays in real mode, which every KVM runs (some hosts interpret, and know no protected-mode IRET), with
; the limit of FS raised to reach the local APIC.
;
; Loaded at 0x7C00, entered in real mode. Sources: Intel SDM 3A, chapters 9.4 and 11 (local APIC).

        org     0x7C00

ROUNDS          equ 20000               ; counts of each processor
PINGS           equ 200                 ; interrupts to all others, each answered
OTHER_START equ 0x8000                  ; a page boundary below 1 MiB: where the others begin
%include "smp.inc"

ANSWER_VECTOR   equ 0x40
PING_VECTOR     equ 0x41

start:  cli
        cld
        xor     ax, ax
        mov     ds, ax
        mov     ss, ax
        mov     sp, 0x7C00
        mov     al, 0xFF                ; no 8259A interrupts
        out     0x21, al
        out     0xA1, al
        mov     word [4 * 2], nmi_interrupt
        mov     word [4 * 2 + 2], 0
        mov     word [4 * ANSWER_VECTOR], answer_interrupt
        mov     word [4 * ANSWER_VECTOR + 2], 0
        mov     word [4 * PING_VECTOR], ping_interrupt
        mov     word [4 * PING_VECTOR + 2], 0
        mov     word [4 * 0xFF], spurious_interrupt
        mov     word [4 * 0xFF + 2], 0
        reach_apic
        mov     eax, [fs:dword APIC + APIC_ID]
        mov     [first_id], eax

        call    start_others
        ; How many came is known when no more come for 100 ms: the others may be slow to be scheduled.
.gather:
        mov     esi, [alive]
        mov     cx, 10
.more:  mov     eax, 10000
        call    delay
        cmp     esi, [alive]
        jne     .gather
        loop    .more
        mov     [others], esi
        test    esi, esi
        jz      report

        mov     byte [stage], 1         ; count!
        call    count
        mov     eax, [others]
        inc     eax
.counting:
        pause
        cmp     [counted], eax
        jne     .counting

        mov     bx, PINGS
.ping:  mov     dword [answers], 0
        command OTHERS | FIXED | PING_VECTOR
        mov     eax, [others]
.wait:  cli
        cmp     [answers], eax
        je      .answered
        sti
        hlt
        jmp     .wait
.answered:
        inc     dword [pings]
        dec     bx
        jnz     .ping
        sti

        command OTHERS | NMI
        mov     eax, [others]
.nmi:   pause
        cmp     [nmis], eax
        jne     .nmi

        ; INIT takes the others out of their HLT loop, and they start anew.
        mov     dword [alive], 0
        call    start_others
        mov     eax, [others]
.again: pause
        cmp     [alive], eax
        jne     .again

report: mov     si, text_cpus
        mov     eax, [others]
        inc     eax
        call    tell
        mov     si, text_counter
        mov     eax, [counter]
        call    tell
        mov     si, text_guarded
        mov     eax, [guarded]
        call    tell
        mov     si, text_pings
        mov     eax, [pings]
        call    tell
        mov     si, text_nmis
        mov     eax, [nmis]
        call    tell
        mov     si, text_started
        mov     eax, [started]
        call    tell
        mov     al, 10
        out     0xE9, al

        mov     bl, 0xEE
        mov     eax, [others]
        test    eax, eax
        jz      .end
        inc     eax
        imul    eax, eax, ROUNDS
        cmp     eax, [counter]
        jne     .end
        cmp     eax, [guarded]
        jne     .end
        mov     bl, 0x2A
.end:   mov     al, bl
        out     0xF4, al
        cli
.stop:  hlt
        jmp     .stop

        smp_routines

; What every processor does at the same time: ROUNDS locked increments, and as many plain ones under a
; spin lock.
count:  mov     cx, ROUNDS
.next:  lock inc dword [counter]
.spin:  mov     al, 1
        xchg    [guard], al
        test    al, al
        jz      .mine
        pause
        jmp     .spin
.mine:  inc     dword [guarded]
        mov     byte [guard], 0
        loop    .next
        lock inc dword [counted]
        ret

answer_interrupt:                       ; on the first processor
        mov     dword [fs:dword APIC + APIC_EOI], 0
spurious_interrupt:
        iret

ping_interrupt:                         ; on the others
        push    eax
        lock inc dword [answers]
        mov     dword [fs:dword APIC + APIC_EOI], 0
        mov     eax, [first_id]
        mov     [fs:dword APIC + APIC_TO], eax
        command FIXED | ANSWER_VECTOR
        pop     eax
        iret

nmi_interrupt:
        lock inc dword [nmis]
        iret

text_cpus:      db "cpus ", 0
text_counter:   db " counter ", 0
text_guarded:   db " guarded ", 0
text_pings:     db " pings ", 0
text_nmis:      db " nmis ", 0
text_started:   db " started ", 0

        align   4
first_id:       dd 0
others:         dd 0
alive:          dd 0                    ; since the last INIT
started:        dd 0                    ; ever
counter:        dd 0
guarded:        dd 0
counted:        dd 0
answers:        dd 0
pings:          dd 0
nmis:           dd 0
guard:          db 0
stage:          db 0                    ; 1: count

; The others begin here, in real mode.
        times   OTHER_START - ($ - $$) - 0x7C00 db 0
        cli
        jmp     0:.segment_0            ; CS is OTHER_START >> 4 here
.segment_0:
        cld
        xor     ax, ax
        mov     ds, ax
        mov     ss, ax
        reach_apic
        mov     eax, 1
        lock xadd [started], eax
        and     ax, 0x3F
        shl     ax, 8
        add     ax, STACKS + 0x100
        mov     sp, ax
        lock inc dword [alive]
        cmp     dword [nmis], 0         ; the second start: only rests
        jne     .rest
.wait:  pause
        cmp     byte [stage], 1
        jne     .wait
        call    count
.rest:  sti
.sleep: hlt
        jmp     .sleep
