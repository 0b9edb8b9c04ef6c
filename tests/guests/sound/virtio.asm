; Virtio sound: five buffers of 100 ms through the transmit queue, 480 Hz.
; Source: Virtual I/O Device (VIRTIO) 1.2, 4.1, 2.7 and 5.14.

%include "report.inc"

CARD    equ 11 << 3                     ; slot 11
BAR     equ 0xF0000000
; Rings: descriptors, then available and used.
CONTROL equ 0x50000
SAMPLES equ 0x54000
AVAIL   equ 0x1000
USED    equ 0x2000
REQUEST equ 0x58000
ANSWER  equ 0x58100
HEADER  equ 0x58200
STATUS  equ 0x58300
DATA    equ 0x20000
BYTES   equ 19200

; QUEUE number, address
%macro QUEUE 2
        mov     word [BAR + 22], %1
        mov     dword [BAR + 32], %2
        mov     dword [BAR + 36], 0
        mov     dword [BAR + 40], %2 + AVAIL
        mov     dword [BAR + 44], 0
        mov     dword [BAR + 48], %2 + USED
        mov     dword [BAR + 52], 0
        mov     word [BAR + 28], 1
%endmacro

; DESCRIPTOR address of it, buffer, length, flags, next
%macro DESCRIPTOR 5
        mov     dword [%1], %2
        mov     dword [%1 + 4], 0
        mov     dword [%1 + 8], %3
        mov     dword [%1 + 12], (%4) | (%5) << 16
%endmacro

; AWAIT_USED queue address, index: a long while. Destroys ECX.
%macro AWAIT_USED 2
        mov     ecx, -1
%%wait: cmp     word [%1 + USED + 2], %2
        je      %%done
        pause
        dec     ecx
        jnz     %%wait
        FAIL
%%done:
%endmacro

; TELL length: the request that stands at REQUEST; it must be granted.
%macro TELL 1
        DESCRIPTOR CONTROL, REQUEST, %1, 1, 1
        inc     word [CONTROL + AVAIL + 2]
        mov     word [BAR + 0x3000], 0
        mov     ax, [CONTROL + AVAIL + 2]
        AWAIT_USED CONTROL, ax
        CHECK   dword [ANSWER], e, 0x8000
%endmacro

        REAL_MODE_START
%include "sound/sound.inc"
        CLOCK_START
        SQUARE  0x2000, 100, 96         ; 50 samples up, 50 down, at 48 kHz: 480 Hz
        CONFIG  CARD, 0x10, BAR
        CONFIG  CARD, 0x04, 6
        mov     eax, 0x80000000 | CARD << 8
        mov     dx, 0xCF8
        out     dx, eax
        mov     dx, 0xCFC
        in      eax, dx
        CHECK   eax, e, 0x10591AF4
        WAIT_MS 100
        lgdt    [gdt_register]
        mov     eax, cr0
        or      al, 1
        mov     cr0, eax
        jmp     dword 8:flat
        bits    32
flat:   mov     ax, 16
        mov     ds, ax
        mov     es, ax
        mov     ss, ax
        mov     esp, 0x7C00
        mov     edi, CONTROL            ; rings and requests are zero
        mov     ecx, (STATUS + 0x100 - CONTROL) / 4
        xor     eax, eax
        rep     stosd
        mov     byte [BAR + 20], 0
        mov     byte [BAR + 20], 3
        mov     dword [BAR + 8], 1
        mov     dword [BAR + 12], 1     ; VERSION_1
        mov     byte [BAR + 20], 0xB
        CHECK   byte [BAR + 20], e, 0xB
        QUEUE   0, CONTROL
        QUEUE   2, SAMPLES
        mov     byte [BAR + 20], 0xF
        CHECK   dword [BAR + 0x2004], e, 2      ; streams
        DESCRIPTOR CONTROL + 16, ANSWER, 4, 2, 0
        mov     dword [REQUEST], 0x101          ; parameters: 16 bits, 48 kHz, two channels
        mov     dword [REQUEST + 8], 5 * BYTES
        mov     dword [REQUEST + 12], BYTES
        mov     dword [REQUEST + 20], 0x00070502
        TELL    24
        mov     dword [REQUEST], 0x102          ; prepare
        TELL    8
%assign n 0
%rep 5
        DESCRIPTOR SAMPLES + 48 * n, HEADER, 4, 1, 3 * n + 1
        DESCRIPTOR SAMPLES + 48 * n + 16, DATA, BYTES, 1, 3 * n + 2
        DESCRIPTOR SAMPLES + 48 * n + 32, STATUS + 8 * n, 8, 2, 0
        mov     word [SAMPLES + AVAIL + 4 + 2 * n], 3 * n
%assign n n + 1
%endrep
        mov     word [SAMPLES + AVAIL + 2], 5
        mov     dword [BAR + 0x3008], 2
        mov     dword [REQUEST], 0x104          ; start
        TELL    8
        AWAIT_USED SAMPLES, 5
        CHECK   dword [STATUS + 32], e, 0x8000
        mov     dword [REQUEST], 0x105          ; stop
        TELL    8
        mov     dword [REQUEST], 0x103          ; release
        TELL    8
        mov     ecx, 20000000           ; the last sounds fade
.fade:  pause
        dec     ecx
        jnz     .fade
        PASS

        align   8
gdt:    dq      0
        dq      0x00CF9A000000FFFF
        dq      0x00CF92000000FFFF
gdt_register:
        dw      23
        dd      gdt
