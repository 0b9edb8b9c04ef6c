; The built-in guest: a small program that runs on the bare machine, with no firmware and no disk.
;
; It is loaded at 0x7C00 and entered in real mode with the VGA in its 80x25 text mode. It programs the
; interrupt controllers, the 8254 (100 Hz on channel 0, the tune on channel 2), the keyboard controller
; and the VGA by their ports. Its interrupt handlers only count ticks, play the tune and fetch scan codes;
; the loop that sleeps with HLT does the rest, so that a slow machine stays responsive.
;
; Assemble: nasm -f bin -o vitrine.bin vitrine.asm

        bits 16
        cpu 386
        org 0x7C00

; 8254: 1 193 182 Hz / 11932 = 99.998 Hz
TIMER_DIVISOR   equ 11932
TICKS_A_SECOND  equ 100
TIMER_VECTOR    equ 0x20
KEYBOARD_VECTOR equ 0x21

TEXT_SEGMENT    equ 0xB800
PIXEL_SEGMENT   equ 0xA000
FONT_SEGMENT    equ 0x1000              ; copy of the character generator while in graphics
FONT_BYTES      equ 0x2000
QUEUE_BYTES     equ 64                  ; a power of two

ROW             equ 160
NORMAL          equ 0x07
BRIGHT          equ 0x0F
TITLE           equ 0x1F
FRAME           equ 0x09
VALUE           equ 0x0E

start:  cli
        cld
        xor     ax, ax
        mov     ds, ax
        mov     ss, ax
        mov     sp, 0x7C00
        call    set_up_interrupts
        call    set_up_timer
        call    set_up_keyboard
        call    save_font
        call    draw_page
        call    start_tune
.loop:  sti
        hlt
.keys:  mov     bl, [taken]
        cmp     bl, [arrived]
        je      .no_key
        inc     byte [taken]
        and     bx, QUEUE_BYTES - 1
        mov     al, [queue + bx]
        call    key
        jmp     .keys
.no_key:
        cmp     byte [in_graphics], 0
        jne     .graphics
        call    show_clock
        call    show_bar
        jmp     .loop
.graphics:
        call    draw_plasma
        jmp     .loop

; ---------------------------------------------------------------- set-up

; Both 8259A: IRQ 0-7 at vectors 0x20-0x27, IRQ 8-15 at 0x28-0x2F; only timer and keyboard unmasked.
set_up_interrupts:
        mov     word [TIMER_VECTOR * 4], timer_interrupt
        mov     word [TIMER_VECTOR * 4 + 2], 0
        mov     word [KEYBOARD_VECTOR * 4], keyboard_interrupt
        mov     word [KEYBOARD_VECTOR * 4 + 2], 0
        mov     al, 0x11                ; ICW1: edge triggered, cascade, ICW4 follows
        out     0x20, al
        out     0xA0, al
        mov     al, TIMER_VECTOR        ; ICW2
        out     0x21, al
        mov     al, TIMER_VECTOR + 8
        out     0xA1, al
        mov     al, 4                   ; ICW3: the second on input 2
        out     0x21, al
        mov     al, 2
        out     0xA1, al
        mov     al, 1                   ; ICW4: 8086 mode
        out     0x21, al
        out     0xA1, al
        mov     al, 0xFC
        out     0x21, al
        mov     al, 0xFF
        out     0xA1, al
        ret

set_up_timer:
        mov     al, 0x34                ; channel 0, low then high byte, mode 2
        out     0x43, al
        mov     al, TIMER_DIVISOR & 0xFF
        out     0x40, al
        mov     al, TIMER_DIVISOR >> 8
        out     0x40, al
        ret

set_up_keyboard:
        mov     al, 0x60                ; write the command byte:
        call    controller_command
        mov     al, 0x41                ; interrupt on, translation to set 1, keyboard enabled
        call    controller_data
        mov     al, 0xAE
        call    controller_command
        mov     al, 0xF4                ; keyboard: start scanning
        call    controller_data
        ret

controller_command:
        call    controller_ready
        out     0x64, al
        ret

controller_data:
        call    controller_ready
        out     0x60, al
        ret

controller_ready:
        push    ax
        mov     cx, 0xFFFF
.wait:  in      al, 0x64
        test    al, 2                   ; input buffer full
        loopnz  .wait
        pop     ax
        ret

; ---------------------------------------------------------------- timer

timer_interrupt:
        pushad
        push    ds                      ; what it interrupts may copy within the screen
        xor     ax, ax
        mov     ds, ax
        inc     dword [ticks]
        call    play_tune
        mov     al, 0x20                ; end of interrupt
        out     0x20, al
        pop     ds
        popad
        iret

; Hours, minutes and seconds since the start, and the ticks themselves.
show_clock:
        mov     ax, TEXT_SEGMENT
        mov     es, ax
        mov     eax, [ticks]
        mov     di, ROW * 7 + 2 * 40
        call    show_decimal
        mov     eax, [ticks]
        xor     edx, edx
        mov     ecx, TICKS_A_SECOND
        div     ecx
        xor     edx, edx
        mov     ecx, 60
        div     ecx
        push    dx                      ; seconds
        xor     edx, edx
        div     ecx
        push    dx                      ; minutes
        mov     di, ROW * 7 + 2 * 14
        call    show_two_digits         ; hours
        call    show_colon
        pop     ax
        call    show_two_digits
        call    show_colon
        pop     ax
        ; falls through

; AL (0 to 99) at ES:DI.
show_two_digits:
        aam
        add     ax, 0x3030
        push    ax
        mov     al, ah
        mov     ah, VALUE
        stosw
        pop     ax
        mov     ah, VALUE
        stosw
        ret

show_colon:
        mov     ax, (VALUE << 8) | ':'
        stosw
        ret

; EAX at ES:DI, ten digits.
show_decimal:
        mov     cx, 10
        add     di, 18
        mov     ebx, 10
.digit: xor     edx, edx
        div     ebx
        mov     dh, VALUE
        add     dl, '0'
        mov     [es:di], dx
        sub     di, 2
        loop    .digit
        ret

; A light that runs to and fro along the frame's lower edge, once a second.
show_bar:
        mov     ax, TEXT_SEGMENT
        mov     es, ax
        mov     eax, [ticks]
        xor     edx, edx
        mov     ecx, 144
        div     ecx
        cmp     dx, 72
        jb      .forward
        neg     dx
        add     dx, 143
.forward:
        mov     di, ROW * 19 + 2 * 4
        mov     cx, 72
        mov     ax, 0x08B0              ; dark, light shade
        rep     stosw
        mov     di, dx
        shl     di, 1
        mov     word [es:di + ROW * 19 + 2 * 4], 0x0BDB
        ret

; ---------------------------------------------------------------- keyboard

keyboard_interrupt:
        push    ax
        push    bx
        push    ds
        xor     ax, ax
        mov     ds, ax
        in      al, 0x60
        inc     dword [keys]
        mov     bl, [arrived]
        inc     byte [arrived]
        and     bx, QUEUE_BYTES - 1
        mov     [queue + bx], al
        mov     al, 0x20
        out     0x20, al
        pop     ds
        pop     bx
        pop     ax
        iret

; AL: the scan code that arrived.
key:    mov     [scan_code], al
        cmp     byte [in_graphics], 0
        jne     act
        call    show_scan_code
        mov     al, [scan_code]
        ; falls through

; AL: the scan code. Function keys act, others are typed; releases do nothing.
act:    cmp     al, 0x3B                ; F1
        je      toggle_graphics
        cmp     al, 0x3C                ; F2
        je      start_tune
        cmp     al, 0x3D                ; F3
        je      reset
        cmp     al, 0x3E                ; F4
        je      power_off
        cmp     al, key_names.end - key_names
        jae     .done
        mov     bx, key_names
        xlatb
        cmp     byte [in_graphics], 0
        jne     .done
        cmp     al, ' '
        jb      .done
        mov     bx, TEXT_SEGMENT
        mov     es, bx
        mov     di, [typed_at]
        mov     ah, BRIGHT
        stosw
        cmp     di, ROW * 11 + 2 * 74
        jb      .room
        mov     di, ROW * 11 + 2 * 14
.room:  mov     word [es:di], 0x0A5F    ; a cursor
        mov     [typed_at], di
.done:  ret

; The newest scan codes, newest at the right.
show_scan_code:
        mov     ax, TEXT_SEGMENT
        mov     es, ax
        push    ds
        mov     ds, ax
        mov     si, ROW * 9 + 2 * 17
        mov     di, ROW * 9 + 2 * 14
        mov     cx, 57
        rep     movsw
        pop     ds
        mov     di, ROW * 9 + 2 * 71
        mov     al, [scan_code]
        shr     al, 4
        call    show_hex_digit
        mov     al, [scan_code]
        call    show_hex_digit
        mov     ax, (NORMAL << 8) | ' '
        stosw
        mov     eax, [keys]
        mov     di, ROW * 7 + 2 * 62
        jmp     show_decimal

show_hex_digit:
        and     al, 0x0F
        cmp     al, 10
        jb      .decimal
        add     al, 'A' - '0' - 10
.decimal:
        add     al, '0'
        mov     ah, VALUE
        stosw
        ret

reset:  mov     al, 0xFE                ; pulse the reset line
        call    controller_command
        ret

; Gives the power management function (PCI 0:1.3) a port window and enters S5 through it.
power_off:
        mov     eax, 0x80000B40         ; PM base
        mov     ebx, 0x00000601
        call    write_pci
        mov     eax, 0x80000B80         ; PM I/O enable
        mov     ebx, 1
        call    write_pci
        mov     dx, 0x604
        mov     ax, 0x2000              ; PM1 control: sleep enable, type 0 (S5)
        out     dx, ax
        ret

write_pci:
        mov     dx, 0xCF8
        out     dx, eax
        mov     dx, 0xCFC
        mov     eax, ebx
        out     dx, eax
        ret

; ---------------------------------------------------------------- tune

start_tune:
        mov     word [note], tune
        mov     byte [note_ticks], 1
        ret

; Called each tick: when a note is over, the next begins.
play_tune:
        cmp     byte [note_ticks], 0
        je      .done
        dec     byte [note_ticks]
        jnz     .done
        mov     si, [note]
        lodsw
        mov     cx, ax                  ; divisor, 0 for silence
        lodsb
        mov     [note], si
        mov     [note_ticks], al
        in      al, 0x61
        and     al, 0xFC
        jcxz    .gate
        or      al, 3
        push    ax
        mov     al, 0xB6                ; channel 2, low then high byte, mode 3
        out     0x43, al
        mov     al, cl
        out     0x42, al
        mov     al, ch
        out     0x42, al
        pop     ax
.gate:  out     0x61, al
.done:  ret

; ---------------------------------------------------------------- text page

draw_page:
        mov     ax, TEXT_SEGMENT
        mov     es, ax
        xor     di, di
        mov     cx, 80
        mov     ax, (TITLE << 8) | ' '
        rep     stosw
        mov     cx, 80 * 24
        mov     ax, (NORMAL << 8) | ' '
        rep     stosw
        mov     si, page
.item:  lodsw                           ; position, or 0 at the end
        mov     di, ax
        or      ax, ax
        jz      .colours
        lodsb
        mov     ah, al
.character:
        lodsb
        or      al, al
        jz      .item
        stosw
        jmp     .character
.colours:                               ; the sixteen colours, four cells each
        mov     di, ROW * 13 + 2 * 14
        call    .stripe
        mov     di, ROW * 14 + 2 * 14
        call    .stripe
        mov     di, ROW * 15 + 2 * 14
.stripe:
        xor     ah, ah
.colour:
        mov     al, 0xDB
        mov     cx, 4
        rep     stosw
        inc     ah
        cmp     ah, 16
        jb      .colour
        ret

; ---------------------------------------------------------------- graphics

; Switches between the text page and 320x200 in 256 colours.
toggle_graphics:
        xor     byte [in_graphics], 1
        jz      .text
        mov     si, mode_13h
        call    set_mode
        call    set_palette
        ret
.text:  call    restore_font
        mov     si, mode_3
        call    set_mode
        call    restore_palette
        jmp     draw_page

; Sixteen lines a tick of moving interference: colour = x*x/64 + y*y/64 + time, and the like.
draw_plasma:
        mov     ax, PIXEL_SEGMENT
        mov     es, ax
        mov     ax, [plasma_line]
        mov     bx, ax
        add     ax, 16
        cmp     ax, 200
        jb      .next
        sub     ax, 200
.next:  mov     [plasma_line], ax
        mov     ch, 16
.line:  imul    di, bx, 320
        mov     ax, bx
        sub     ax, 100
        imul    ax, ax
        shr     ax, 6
        add     ax, [ticks]
        mov     bp, ax
        xor     si, si                  ; x
.pixel: mov     ax, si
        sub     ax, 160
        imul    ax, ax
        shr     ax, 6
        add     ax, bp
        mov     dx, si
        xor     dx, bx
        shr     dx, 2
        add     al, dl
        stosb
        inc     si
        cmp     si, 320
        jb      .pixel
        inc     bx
        cmp     bx, 200
        jb      .same
        xor     bx, bx
.same:  dec     ch
        jnz     .line
        ret

; 64 steps through the colour circle, four times over.
set_palette:
        mov     dx, 0x3C8
        xor     al, al
        out     dx, al
        inc     dx
        xor     bl, bl
.entry: mov     al, bl                  ; red rises and falls
        call    .wave
        mov     al, bl                  ; green a third later
        add     al, 85
        call    .wave
        mov     al, bl
        add     al, 170
        call    .wave
        inc     bl
        jnz     .entry
        ret
.wave:  cmp     al, 128                 ; triangle of 0 to 63
        jb      .rising
        not     al
.rising:
        shr     al, 1
        out     dx, al
        ret

; The first 64 entries of the text palette: bits of the index are bright and dim RGB.
restore_palette:
        mov     dx, 0x3C8
        xor     al, al
        out     dx, al
        inc     dx
        xor     bl, bl
.entry: mov     cl, 2
        call    .component
        mov     cl, 1
        call    .component
        mov     cl, 0
        call    .component
        inc     bl
        cmp     bl, 64
        jb      .entry
        ret
.component:                             ; 42 for bit CL, 21 for bit CL + 3
        xor     ah, ah
        mov     al, bl
        shr     al, cl
        test    al, 1
        jz      .dim
        add     ah, 42
.dim:   test    al, 8
        jz      .out
        add     ah, 21
.out:   mov     al, ah
        out     dx, al
        ret

; SI: misc output, then 5 sequencer, 25 CRT controller, 9 graphics and 21 attribute registers.
set_mode:
        mov     dx, 0x3C2
        lodsb
        out     dx, al
        mov     dx, 0x3C4
        mov     cx, 5
        call    .indexed
        mov     dx, 0x3D4
        mov     ax, 0x0011              ; unlock registers 0 to 7
        out     dx, ax
        mov     cx, 25
        call    .indexed
        mov     dx, 0x3CE
        mov     cx, 9
        call    .indexed
        mov     dx, 0x3DA
        in      al, dx                  ; the attribute port takes an index next
        mov     dx, 0x3C0
        xor     ah, ah
        mov     cx, 21
.attribute:
        mov     al, ah
        out     dx, al
        lodsb
        out     dx, al
        inc     ah
        loop    .attribute
        mov     al, 0x20                ; screen on
        out     dx, al
        ret
.indexed:
        xor     ah, ah
.register:
        mov     al, ah
        out     dx, al
        inc     dx
        lodsb
        out     dx, al
        dec     dx
        inc     ah
        loop    .register
        ret

; The character generator lives in plane 2, which 256-colour pixels overwrite.
save_font:
        push    ds
        call    open_plane_2
        mov     ax, FONT_SEGMENT
        mov     es, ax
        mov     ax, PIXEL_SEGMENT
        mov     ds, ax
        call    copy_font
        pop     ds
        mov     si, mode_3
        jmp     set_mode

restore_font:
        push    ds
        call    open_plane_2
        mov     ax, PIXEL_SEGMENT
        mov     es, ax
        mov     ax, FONT_SEGMENT
        mov     ds, ax
        call    copy_font
        pop     ds
        ret

copy_font:
        xor     si, si
        xor     di, di
        mov     cx, FONT_BYTES / 2
        rep     movsw
        ret

; Plane 2 alone, flat, at 0xA0000.
open_plane_2:
        mov     dx, 0x3C4
        mov     ax, 0x0402              ; write plane 2
        out     dx, ax
        mov     ax, 0x0604              ; no chain 4, no odd/even
        out     dx, ax
        mov     dx, 0x3CE
        mov     ax, 0x0204              ; read plane 2
        out     dx, ax
        mov     ax, 0x0005              ; read and write mode 0
        out     dx, ax
        mov     ax, 0x0406              ; 64 KiB at 0xA0000
        out     dx, ax
        mov     ax, 0xFF08
        out     dx, ax
        mov     ax, 0x0001
        out     dx, ax
        mov     ax, 0x0003
        out     dx, ax
        ret

; ---------------------------------------------------------------- data

ticks           dd 0
keys            dd 0
scan_code       db 0
arrived         db 0                    ; scan codes the interrupt has queued
taken           db 0                    ; scan codes the loop has taken
queue           times QUEUE_BYTES db 0
in_graphics     db 0
typed_at        dw ROW * 11 + 2 * 14
plasma_line     dw 0
note            dw tune
note_ticks      db 0

; Characters of scan codes 0x00 to 0x39 (set 1, US).
key_names:
        db 0, 0, "1234567890-=", 0, 0, "qwertyuiop[]", 0, 0, "asdfghjkl;'`", 0, "\zxcvbnm,./", 0, "*", 0, " "
.end:

%macro item 4+                          ; row, column, attribute, text
        dw      %1 * ROW + %2 * 2
        db      %3, %4, 0
%endmacro

page:   item 0, 2, TITLE, "Vitrine ", 0xFA, " the built-in guest"
        item 0, 49, TITLE, "no firmware, no disk: bare PC"
        item 2, 4, NORMAL, "This program runs on the bare machine. The 8254 drives its clock, what"
        item 3, 4, NORMAL, "you type comes through the keyboard controller, the tune is on the speaker."
        item 7, 4, BRIGHT, "Clock"
        item 7, 32, BRIGHT, "Ticks"
        item 7, 52, BRIGHT, "Keyboard"
        item 9, 4, BRIGHT, "Scan codes"
        item 11, 4, BRIGHT, "Typed"
        item 13, 4, BRIGHT, "Colours"
        item 22, 4, BRIGHT, "F1"
        item 22, 7, NORMAL, "graphics"
        item 22, 18, BRIGHT, "F2"
        item 22, 21, NORMAL, "music"
        item 22, 29, BRIGHT, "F3"
        item 22, 32, NORMAL, "reset"
        item 22, 40, BRIGHT, "F4"
        item 22, 43, NORMAL, "switch the machine off"
        dw      0

; (8254 divisor, ticks): the beginning of "Ode to Joy".
%define NOTE_D  4063
%define NOTE_E  3620
%define NOTE_F  3417
%define NOTE_G  3044
%define NOTE_C  4561
tune:   dw NOTE_E
        db 28
        dw NOTE_E
        db 28
        dw NOTE_F
        db 28
        dw NOTE_G
        db 28
        dw NOTE_G
        db 28
        dw NOTE_F
        db 28
        dw NOTE_E
        db 28
        dw NOTE_D
        db 28
        dw NOTE_C
        db 28
        dw NOTE_C
        db 28
        dw NOTE_D
        db 28
        dw NOTE_E
        db 28
        dw NOTE_E
        db 42
        dw NOTE_D
        db 14
        dw NOTE_D
        db 56
        dw 0
        db 0

; VGA registers of the two modes, as the IBM VGA BIOS sets them.
mode_3: db 0x67
        db 0x03, 0x00, 0x03, 0x00, 0x02
        db 0x5F, 0x4F, 0x50, 0x82, 0x55, 0x81, 0xBF, 0x1F, 0x00, 0x4F, 0x20, 0x0E, 0x00, 0x00, 0x00, 0x00
        db 0x9C, 0x8E, 0x8F, 0x28, 0x1F, 0x96, 0xB9, 0xA3, 0xFF
        db 0x00, 0x00, 0x00, 0x00, 0x00, 0x10, 0x0E, 0x00, 0xFF
        db 0x00, 0x01, 0x02, 0x03, 0x04, 0x05, 0x14, 0x07, 0x38, 0x39, 0x3A, 0x3B, 0x3C, 0x3D, 0x3E, 0x3F
        db 0x04, 0x00, 0x0F, 0x08, 0x00
mode_13h:
        db 0x63
        db 0x03, 0x01, 0x0F, 0x00, 0x0E
        db 0x5F, 0x4F, 0x50, 0x82, 0x54, 0x80, 0xBF, 0x1F, 0x00, 0x41, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00
        db 0x9C, 0x0E, 0x8F, 0x28, 0x40, 0x96, 0xB9, 0xA3, 0xFF
        db 0x00, 0x00, 0x00, 0x00, 0x00, 0x40, 0x05, 0x0F, 0xFF
        db 0x00, 0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x07, 0x08, 0x09, 0x0A, 0x0B, 0x0C, 0x0D, 0x0E, 0x0F
        db 0x41, 0x00, 0x0F, 0x00, 0x00
