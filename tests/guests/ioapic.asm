; The I/O APIC: registers, the 8254 at input 2 as edges, the keyboard controller at input 1, masks, and a level
; with its remote IRR. Source: Intel 82093AA datasheet (290566).

%include "report.inc"
%include "protected.inc"

SELECT  equ 0xFEC00000
WINDOW  equ 0xFEC00010
APIC    equ 0xFEE00000
EOI     equ APIC + 0xB0
SVR     equ APIC + 0xF0
TPR     equ APIC + 0x80

; IOAPIC_OUT register, value; IOAPIC_IN register: to EAX
%macro IOAPIC_OUT 2
        mov     dword [SELECT], %1
        mov     dword [WINDOW], %2
%endmacro
%macro IOAPIC_IN 1
        mov     dword [SELECT], %1
        mov     eax, [WINDOW]
%endmacro

        REAL_MODE_START
        PIC_START
        ENTER_PROTECTED_MODE
        mov     dword [SVR], 0x1FF
        mov     dword [TPR], 0
        IOAPIC_IN 1
        and     eax, 0x00FF00FF
        CHECK   eax, ae, 0x00170011     ; 24 inputs, version 0x11 or 0x20
        shr     eax, 16
        CHECK   eax, e, 23
        mov     ebx, 0x10
.reset: mov     [SELECT], ebx
        mov     eax, [WINDOW]
        test    eax, 0x10000
        CHECK_FLAG nz                   ; all masked
        add     ebx, 2
        cmp     ebx, 0x40
        jb      .reset

        SET_GATE 0x30, CODE32, timer, 0x8E00
        SET_GATE 0x31, CODE32, keyboard, 0x8E00
; The 8254: ISA IRQ 0 is input 2.
        IOAPIC_OUT 0x15, 0              ; to local APIC 0
        IOAPIC_OUT 0x14, 0x30
        IOAPIC_IN 0x14
        CHECK   eax, e, 0x30
        OUT8    0x43, 0x34
        OUT8    0x40, 5966 & 0xFF
        OUT8    0x40, 5966 >> 8
        sti
.ticks: hlt
        cmp     dword [ticks], 5
        jb      .ticks
        IOAPIC_OUT 0x14, 0x10030
        mov     ebx, [ticks]
        inc     ebx                     ; one may be on its way
        mov     ecx, 3000
.mask:  in      al, 0x80
        dec     ecx
        jnz     .mask
        CHECK   [ticks], be, ebx

; The keyboard controller: a byte raises IRQ 1.
        AWAIT   0x64, 2, 0
        OUT8    0x64, 0x60
        AWAIT   0x64, 2, 0
        OUT8    0x60, 0x01
        IOAPIC_OUT 0x13, 0
        IOAPIC_OUT 0x12, 0x31
        AWAIT   0x64, 2, 0
        OUT8    0x64, 0xD2
        AWAIT   0x64, 2, 0
        OUT8    0x60, 0x77
        AWAIT_MEMORY byte [key], e, 0x77

; The same line as a level: remote IRR from acceptance to the end of interrupt, and again while it is high.
        cli
        IOAPIC_OUT 0x12, 0x18031
        mov     dword [keep], 2         ; the handler leaves the byte twice
        mov     dword [keys], 0
        OUT8    0x64, 0xD2
        AWAIT   0x64, 2, 0
        OUT8    0x60, 0x66
        AWAIT   0x64, 1, 1
        IOAPIC_OUT 0x12, 0x08031
        IOAPIC_IN 0x12
        CHECK   eax, e, 0x0C031         ; accepted: remote IRR
        sti
        AWAIT_MEMORY dword [keys], e, 3
        cli
        CHECK   byte [key], e, 0x66
        IOAPIC_IN 0x12
        CHECK   eax, e, 0x08031
        PASS

timer:  inc     dword [ticks]
        mov     dword [EOI], 0
        iret
keyboard:
        push    eax
        inc     dword [keys]
        cmp     dword [keep], 0
        je      .take
        dec     dword [keep]
        jmp     .out
.take:  in      al, 0x60
        mov     [key], al
.out:   mov     dword [EOI], 0
        pop     eax
        iret

ticks:  dd      0
keys:   dd      0
keep:   dd      0
key:    db      0
