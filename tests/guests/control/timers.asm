; Counts the ticks of one timer for a while, halted between them. What it programs stands behind the mark "TIMERS":
; whoever starts it writes there which timer, how, and for how many nanoseconds by the time-stamp counter (on the
; software CPU one count is one guest nanosecond). On the debug console: 'S' when it starts, 'E' when it ends; then the
; ticks; the nanoseconds from before it programmed the timer to when its time was over; how much later than their begin
; the timer ran; and how much later than their end it was stopped; as 32-bit words, lowest byte first.

%include "report.inc"
%include "protected.inc"

APIC    equ 0xFEE00000
EOI     equ APIC + 0xB0
SVR     equ APIC + 0xF0
LVT_TIMER equ APIC + 0x320
INITIAL equ APIC + 0x380
DIVIDE  equ APIC + 0x3E0

; Sends the dword at %1, lowest byte first. Destroys EAX, ECX.
%macro SEND 1
        mov     eax, [%1]
        mov     ecx, 4
%%byte: out     0xE9, al
        shr     eax, 8
        dec     ecx
        jnz     %%byte
%endmacro

; CMOS register number, value.
%macro CMOS_OUT 2
        OUT8    0x70, %1
        OUT8    0x71, %2
%endmacro

        REAL_MODE_START
        PIC_START
        ENTER_PROTECTED_MODE
        SET_GATE 0x20, CODE32, pit_tick, 0x8E00
        SET_GATE 0x28, CODE32, rtc_tick, 0x8E00
        SET_GATE 0x30, CODE32, apic_tick, 0x8E00
        OUT8    0x43, 0x30              ; channel 0 stands still
        rdtsc
        mov     [begun], eax
        mov     [begun + 4], edx
        SAY     'S'
        cmp     dword [timer], 1
        je      start_rtc
        ja      start_apic

        OUT8    0x21, 0xFE              ; IRQ 0
        OUT8    0x43, [way]
        OUT8    0x40, [count]
        OUT8    0x40, [count + 1]
        jmp     count_ticks
start_rtc:
        CMOS_OUT 0x0A, 0x20             ; no rate yet
        CMOS_OUT 0x0B, 0x42             ; periodic interrupt, 24 hours
        OUT8    0x70, 0x0C
        in      al, 0x71                ; forgets old requests
        OUT8    0x21, 0xFB              ; the cascade
        OUT8    0xA1, 0xFE              ; IRQ 8
        OUT8    0x70, 0x0A
        mov     al, [way]               ; the rate
        or      al, 0x20
        out     0x71, al
        jmp     count_ticks
start_apic:
        mov     dword [SVR], 0x1FF
        mov     dword [DIVIDE], 0x0B    ; by 1: nanoseconds
        mov     dword [LVT_TIMER], 0x20030
        mov     eax, [count]
        mov     [INITIAL], eax

count_ticks:
        rdtsc
        sub     eax, [begun]
        mov     [started], eax
        sti
.next:  hlt
        rdtsc
        sub     eax, [begun]
        sbb     edx, [begun + 4]
        cmp     edx, [lasts + 4]
        jb      .next
        ja      .over
        cmp     eax, [lasts]
        jb      .next
.over:  cli
        mov     [passed], eax
        mov     [passed + 4], edx
        OUT8    0x43, 0x30
        CMOS_OUT 0x0B, 0x02
        mov     dword [INITIAL], 0
        rdtsc
        sub     eax, [begun]
        sub     eax, [passed]
        mov     [stopped], eax
        SAY     'E'
; A tick that was requested meanwhile still counts.
        sti
        mov     ecx, 100
.late:  in      al, 0x80
        dec     ecx
        jnz     .late
        cli
        SEND    ticks
        SEND    passed
        SEND    passed + 4
        SEND    started
        SEND    stopped
        PASS

pit_tick:
        push    eax
        inc     dword [ticks]
        OUT8    0x20, 0x20
        pop     eax
        iret
rtc_tick:
        push    eax
        inc     dword [ticks]
        OUT8    0x70, 0x0C
        in      al, 0x71
        OUT8    0xA0, 0x20
        OUT8    0x20, 0x20
        pop     eax
        iret
apic_tick:
        inc     dword [ticks]
        mov     dword [EOI], 0
        iret

begun:  dq      0
passed: dq      0
started: dd     0
stopped: dd     0
ticks:  dd      0
        db      'TIMERS'
timer:  dd      0                       ; 0: 8254 channel 0; 1: RTC; 2: local APIC
way:    dd      0x34                    ; 8254: control word; RTC: rate
count:  dd      11932                   ; 8254 and local APIC: initial count
lasts:  dq      1000000000
