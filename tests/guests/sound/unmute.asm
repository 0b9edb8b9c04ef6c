; A Linux program without a library: opens /dev/mixer and makes master and PCM as loud as they go.
; Source: OSS Programmer's Guide 1.1, "Mixer programming"; Linux's include/uapi/linux/soundcard.h; System V ABI, ELF.

        bits    64
        org     0x400000

elf:    db      0x7F, "ELF", 2, 1, 1, 0
        times   8 db 0
        dw      2, 62                   ; a program, x86-64
        dd      1
        dq      start
        dq      load - elf
        dq      0
        dd      0
        dw      64, 56, 1, 64, 0, 0
load:
        dd      1, 7                    ; loaded, all rights
        dq      0, elf, elf, end - elf, end - elf, 0x1000

OPEN    equ 2
IOCTL   equ 16
EXIT    equ 60
READ_AND_WRITE equ 2
WRITE_VOLUME   equ 0xC0044D00
WRITE_PCM      equ 0xC0044D04

start:  mov     eax, OPEN
        lea     rdi, [rel mixer]
        mov     esi, READ_AND_WRITE
        syscall
        test    eax, eax
        js      failed
        mov     edi, eax
        mov     eax, IOCTL
        mov     esi, WRITE_VOLUME
        lea     rdx, [rel loud]
        syscall
        test    eax, eax
        js      failed
        mov     eax, IOCTL
        mov     esi, WRITE_PCM
        lea     rdx, [rel loud]
        syscall
        test    eax, eax
        js      failed
        xor     edi, edi
        jmp     over
failed: mov     edi, 1
over:   mov     eax, EXIT
        syscall
mixer:  db      "/dev/mixer", 0
        align   4
loud:   dd      0x5050                  ; 80 of 100, left and right
end:
