; A guest that walks through every mode and writes one byte after the other to 0x500 as it goes:
; real, protected, ring 3, call gate, virtual-8086, paging, tasks, long mode, SYSCALL. It ends in HLT,
; and woken from that, in a triple fault.
; Build: nasm -f bin modes.asm -o modes.bin        Loaded and entered at 0000:7C00.

    org 0x7C00
    bits 16

LOG     equ 0x500           ; the log; its end is in a dword at 0x4FC
END     equ 0x4FC
IDT     equ 0x2000
PD      equ 0x10000
PML4    equ 0x11000
PDPT    equ 0x12000
PD64    equ 0x13000

CODE0   equ 0x08
DATA0   equ 0x10
CODE3   equ 0x1B
DATA3   equ 0x23
TASK1   equ 0x28
TASK2   equ 0x30
GATE    equ 0x3B
CODE64  equ 0x40
DATA64  equ 0x48            ; SYSCALL: CODE64, +8
USER32  equ 0x50            ; SYSRET: +8 SS, +16 CS
USERD   equ 0x5B
USER64  equ 0x63
TASK64  equ 0x68            ; two entries

%macro log 1                ; 16- and 32-bit
    push %1
    call put
%endmacro

start:
    cli
    xor ax, ax
    mov ds, ax
    mov es, ax
    mov ss, ax
    mov sp, 0x7000
    mov dword [END], LOG
    mov word [0x40 * 4], real_interrupt
    mov [0x40 * 4 + 2], cs
    int 0x40                ; 'R'
    mov ax, 0xB800
    mov fs, ax
    o32 lgdt [gdt_pointer]
    mov eax, cr0
    or al, 1
    mov cr0, eax
    jmp dword CODE0:protected

real_interrupt:
    push bx
    mov bx, [END]
    mov byte [bx], 'R'
    inc word [END]
    pop bx
    iret

    bits 32
put:                        ; logs the low byte of the dword above the return address, and removes it
    push eax
    push ebx
    mov eax, [esp + 12]
    mov ebx, [cs:END]
    push ds
    push ss
    pop ds
    mov [ebx], al
    inc dword [END]
    pop ds
    pop ebx
    pop eax
    ret 4

%macro gate32 2             ; vector, handler with attributes in dl, selector in the code segment
    mov eax, %2
    mov ebx, IDT + %1 * 8
    call make_gate
%endmacro

make_gate:                  ; eax offset, ebx where, dl attributes
    mov [ebx], ax
    mov word [ebx + 2], CODE0
    mov byte [ebx + 4], 0
    mov [ebx + 5], dl
    shr eax, 16
    mov [ebx + 6], ax
    ret

protected:
    mov ax, DATA0
    mov ds, ax
    mov es, ax
    mov ss, ax
    mov esp, 0x6000
    log 'P'
    mov dl, 0x8E
    gate32 13, general_protection
    gate32 14, page_fault
    mov dl, 0xEE
    gate32 0x42, from_ring_3
    gate32 0x43, to_v8086
    lidt [idt_pointer]
    mov ax, TASK1
    ltr ax
    mov ax, 0x80            ; beyond the GDT
    mov fs, ax              ; 'G' 0x80
    push dword DATA3
    push dword 0x5000
    push dword 2
    push dword CODE3
    push dword ring_3
    iretd

general_protection:         ; error code on the stack
    test dword [esp + 12], 1 << 17
    jnz from_v8086
    push dword [esp]
    push ds
    push ss
    pop ds
    pop ds
    add esp, 4
    log 'G'
    mov eax, [esp]
    log eax
    mov eax, [esp + 4]
    cmp byte [cs:eax], 0xFA ; CLI is one byte, MOV FS two
    je .one
    inc dword [esp + 4]
.one:
    inc dword [esp + 4]
    add esp, 4
    iretd

ring_3:
    mov ax, DATA3
    mov ds, ax
    mov es, ax
    int 0x42                ; 'U' 3
    cli                     ; 'G' 0
    mov eax, 0x1234
    push eax                ; the gate's one parameter
    call GATE:0             ; 'C' 0x34
    int 0x43

from_ring_3:
    log 'U'
    mov eax, [esp + 4]
    and eax, 3
    log eax
    iretd

through_gate:
    log 'C'
    mov eax, [esp + 8]
    log eax
    retf 4

to_v8086:                   ; ring 0 stack: leave it, enter virtual-8086 mode at 0x07C0:...
    push dword 0            ; GS
    push dword 0            ; FS
    push dword 0            ; DS
    push dword 0            ; ES
    push dword 0            ; SS
    push dword 0x4000       ; ESP
    push dword 0x20002      ; EFLAGS: VM
    push dword 0            ; CS
    push dword in_v8086
    iretd

    bits 16
in_v8086:
    mov ax, 0x7C0
    mov es, ax
    mov ax, [es:in_v8086 - 0x7C00]
    int 0x44                ; #GP(0): IOPL is 0

    bits 32
from_v8086:                 ; error code, EIP, CS, EFLAGS, ESP, SS, ES, DS, FS, GS
    mov ax, DATA0
    mov ds, ax
    mov es, ax
    log 'V'
    mov eax, [esp + 4]
    movzx eax, byte [eax]
    log eax                 ; 0xCD
    mov eax, [esp + 24]
    log eax                 ; low byte of ES: 0xC0
    mov esp, 0x6000

    ; paging: 4 MiB at 0 identity mapped, 4 MiB at 4 MiB not
    mov dword [PD], 0x87
    mov dword [PD + 4], 0
    mov eax, PD
    mov cr3, eax
    mov eax, cr4
    or al, 0x10             ; PSE
    mov cr4, eax
    mov eax, cr0
    or eax, 0x80010000      ; PG, WP
    mov cr0, eax
    mov dword [0x3000], 'page'
    mov eax, [0x403000]     ; 'F' 0 0x30, then mapped and tried again
    log eax                 ; 'p'
    mov eax, [PD + 4]
    and eax, 0x60
    log eax                 ; accessed, not dirty: 0x20
    mov byte [0x403000], 'q'
    mov eax, [PD + 4]
    and eax, 0x60
    log eax                 ; 0x60
    jmp tasks

page_fault:
    pushad
    log 'F'
    mov eax, [esp + 32]
    log eax
    mov eax, cr2
    shr eax, 8
    log eax
    mov dword [PD + 4], 0x87
    invlpg [0x403000]
    popad
    add esp, 4
    iretd

tasks:
    call TASK2:0            ; 'T'
    log 't'
    call TASK2:0            ; resumes after its IRET: 'T' again
    log 't'

    ; long mode
    mov eax, cr0
    and eax, 0x7FFFFFFF
    mov cr0, eax
    mov dword [PML4], PDPT + 7
    mov dword [PDPT], PD64 + 7
    mov dword [PD64], 0x87
    mov eax, PML4
    mov cr3, eax
    mov eax, cr4
    or al, 0x20
    mov cr4, eax
    mov ecx, 0xC0000080
    rdmsr
    or eax, 0x101           ; LME, SCE
    wrmsr
    mov eax, cr0
    or eax, 0x80000000
    mov cr0, eax
    log 'l'                 ; compatibility mode
    jmp CODE64:in_long_mode

task_2:
    log 'T'
    iretd
    jmp task_2

    bits 64
%macro log64 1
    push %1
    call put64
%endmacro

put64:
    push rax
    push rbx
    mov rax, [rsp + 24]
    mov ebx, [END]
    mov [rbx], al
    inc dword [END]
    pop rbx
    pop rax
    ret 8

%macro gate64 2
    mov rax, %2
    mov rbx, IDT + %1 * 16
    mov [rbx], ax
    mov word [rbx + 2], CODE64
    mov word [rbx + 4], 0x8E00
    shr rax, 16
    mov [rbx + 6], eax
    mov dword [rbx + 10], 0
%endmacro

in_long_mode:
    xor eax, eax
    mov ss, ax
    mov ds, ax
    mov rsp, 0x6000
    log64 'L'
    gate64 0, divide_error
    gate64 6, invalid_opcode
    gate64 13, general_protection_64
    lidt [idt_pointer_64]
    mov ax, TASK64
    ltr ax
    ud2                     ; 'D'
    mov rax, 0x800000000000
    mov al, [rax]           ; 'g': not canonical
    mov ecx, 0xC0000081
    xor eax, eax
    mov edx, (USER32 + 3) << 16 | CODE64
    wrmsr
    inc ecx
    mov eax, system_call
    xor edx, edx
    wrmsr
    push USERD
    push 0x5000
    push 2
    push USER64
    push user_64
    iretq

invalid_opcode:
    log64 'D'
    add qword [rsp], 2
    iretq

divide_error:
    log64 'Z'
    add qword [rsp], 2
    iretq

general_protection_64:
    log64 'g'
    add rsp, 8
    add qword [rsp], 2
    iretq

user_64:
    xor edx, edx
    xor ecx, ecx
    mov eax, 1
    div ecx                 ; 'Z', through RSP0
    mov al, 1
    syscall                 ; 'S' 1
    mov al, 2
    syscall                 ; 'S' 2, and the end

system_call:
    mov rsp, 0x6000
    log64 'S'
    log64 rax
    cmp al, 2
    je .end
    mov rsp, 0x5000
    o64 sysret
.end:
    mov ax, cs
    log64 rax               ; 0x40
    hlt
    lidt [no_idt]
    ud2                     ; nobody is left: shutdown

    align 8
gdt:
    dq 0
    dq 0x00CF9A000000FFFF   ; CODE0
    dq 0x00CF92000000FFFF   ; DATA0
    dq 0x00CFFA000000FFFF   ; CODE3
    dq 0x00CFF2000000FFFF   ; DATA3
    dw 0x67, tss_1, 0x8900, 0
    dw 0x67, tss_2, 0x8900, 0
    dw through_gate, CODE0, 0xEC01, 0
    dq 0x00AF9A000000FFFF   ; CODE64
    dq 0x00CF92000000FFFF   ; DATA64
    dq 0x00CFFA000000FFFF   ; USER32
    dq 0x00CFF2000000FFFF   ; USERD
    dq 0x00AFFA000000FFFF   ; USER64
    dw 0x67, tss_64, 0x8900, 0
    dq 0
gdt_end:

gdt_pointer:
    dw gdt_end - gdt - 1
    dd gdt
idt_pointer:
    dw 0x44 * 8 + 7
    dd IDT
idt_pointer_64:
    dw 0x1F * 16 + 15
    dq IDT
no_idt:
    dw 0
    dq 0

tss_1:
    dd 0, 0x6800, DATA0, 0, 0, 0, 0, PD
    times 0x68 - ($ - tss_1) db 0
tss_2:
    times 28 db 0
    dd PD, task_2, 2
    dd 0, 0, 0, 0, 0x6400, 0, 0, 0
    dd DATA0, CODE0, DATA0, DATA0, 0, 0, 0, 0x680000
tss_64:
    dd 0
    dq 0x6800
    times 0x68 - ($ - tss_64) db 0
