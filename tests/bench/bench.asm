; The benchmark guest: one of fourteen loops, repeated as often as the runner asks, on whatever boots a disk by a
; PC BIOS. `tests/examples/bench` writes the loop's number and the count into the image, and takes the time.
;
; Real mode, 32-bit protected mode, then 64-bit mode with 2 MiB pages (the second 2 MiB: 4 KiB pages). The loop
; leaves a value in RAX, which goes to port 0xE9 in hexadecimal. Then off: debug-exit port (Vitrine, QEMU),
; Bochs's shutdown port.

PML4    equ 0x10000
PDPT    equ 0x11000
PD      equ 0x12000
PT      equ 0x13000
IDT     equ 0x14000
STACK   equ 0x8F000
FINE    equ 0x200000                    ; mapped by 4 KiB pages
STRIDE  equ 0x400000
DATA    equ 0x2000000
CODE32  equ 8
FLAT    equ 16
CODE64  equ 24

        org     0x7C00
        bits    16
        jmp     near start
        times   8 - ($ - $$) nop
number: dd      0                       ; the runner's: which loop, from 1
        dd      0
count:  dq      0                       ; the runner's: how often

start:  cli
        cld
        xor     ax, ax
        mov     ds, ax
        mov     es, ax
        mov     ss, ax
        mov     sp, 0x7C00
        mov     ah, 0x42                ; the rest of this program; DL is the disk
        mov     si, packet
        int     0x13
        jc      $
        in      al, 0x92
        or      al, 2
        and     al, 0xFE
        out     0x92, al                ; A20
        lgdt    [gdtr]
        mov     eax, cr0
        or      al, 1
        mov     cr0, eax
        jmp     CODE32:protected

packet: db      16, 0
        dw      (end - rest) / 512, 0x7E00, 0
        dq      1

gdtr:   dw      gdt.end - gdt - 1
        dd      gdt
        align   8
gdt:    dq      0
        dq      0x00CF9B000000FFFF      ; CODE32
        dq      0x00CF93000000FFFF      ; FLAT
        dq      0x00AF9B000000FFFF      ; CODE64
.end:
        times   510 - ($ - $$) db 0
        dw      0xAA55
rest:

        bits    32
protected:
        mov     ax, FLAT
        mov     ds, ax
        mov     es, ax
        mov     ss, ax
        mov     esp, STACK
        mov     edi, PML4
        mov     ecx, 0x5000 / 4
        xor     eax, eax
        rep     stosd
        mov     dword [PML4], PDPT | 3
        mov     dword [PDPT], PD | 3
        mov     edi, PD
        mov     eax, 0x83
.large: mov     [edi], eax
        add     edi, 8
        add     eax, 0x200000
        cmp     edi, PD + 0x1000
        jb      .large
        mov     dword [PD + 8], PT | 3
        mov     edi, PT
        mov     eax, FINE | 3
.small: mov     [edi], eax
        add     edi, 8
        add     eax, 0x1000
        cmp     edi, PT + 0x1000
        jb      .small
        mov     eax, cr4
        or      eax, 0x620              ; PAE, OSFXSR, OSXMMEXCPT
        mov     cr4, eax
        mov     eax, PML4
        mov     cr3, eax
        mov     ecx, 0xC0000080         ; EFER
        rdmsr
        or      eax, 0x100              ; LME
        wrmsr
        mov     eax, cr0
        and     eax, ~4                 ; EM
        or      eax, 0x80010022         ; PG, WP, NE, MP
        mov     cr0, eax
        jmp     CODE64:start64

        bits    64
        default abs
; GATE vector, handler
%macro GATE 2
        mov     qword [IDT + 16 * %1], CODE64 << 16 | ((%2 - $$ + 0x7C00) & 0xFFFF)
        mov     dword [IDT + 16 * %1 + 4], 0x8E00
%endmacro
idtr:   dw      0xFFF
        dq      IDT
loops:  dq      integer, walk, stride, calls, indirect, copy, vector, x87, sieve, crossing, interrupts, patch
        dq      reload, faults

start64:
        lidt    [idtr]
        GATE    14, page_fault
        GATE    0x30, interrupt
        xor     eax, eax
        xor     ebx, ebx
        xor     edx, edx
        xor     esi, esi
        mov     r15, [count]
        test    r15, r15
        jz      report
        mov     ecx, [number]
        jmp     [loops + 8 * rcx - 8]

; Ends with what is in RAX.
report: mov     rbx, rax
        mov     ecx, 16
.digit: rol     rbx, 4
        mov     al, bl
        and     al, 15
        add     al, '0'
        cmp     al, '9'
        jbe     .put
        add     al, 'a' - '9' - 1
.put:   out     0xE9, al
        dec     ecx
        jnz     .digit
        mov     al, 10
        out     0xE9, al
        mov     al, 0
        out     0xF4, al
        mov     dx, 0x8900
        mov     esi, goodbye
        mov     ecx, 8
        rep     outsb
        hlt
goodbye: db     'Shutdown'

; 10 instructions.
integer:
        mov     rcx, r15
        mov     eax, 1
.top:   mov     edx, eax
        shl     edx, 5
        xor     eax, edx
        add     eax, ecx
        lea     ebx, [rax + rdx * 2 + 7]
        and     ebx, 0xFFFF
        sub     edx, ebx
        add     esi, edx
        dec     rcx
        jnz     .top
        add     rax, rsi
        jmp     report

; 65,536 times 7 instructions: every 64th byte of 4 MiB, read twice and written once.
walk:   mov     edi, DATA
        mov     ecx, 65536
.top:   mov     rax, [rdi]
        add     rax, rcx
        mov     [rdi], rax
        add     rdx, [rdi + 8]
        add     rdi, 64
        sub     ecx, 1
        jnz     .top
        dec     r15
        jnz     walk
        add     rax, rdx
        jmp     report

; 32 times 4 instructions: pages 4 MiB and a line apart.
stride: mov     edi, STRIDE
        mov     ecx, 32
.fill:  mov     [rdi], ecx
        add     rdi, STRIDE + 64
        dec     ecx
        jnz     .fill
.again: mov     edi, STRIDE
        mov     ecx, 32
.top:   add     eax, [rdi]
        add     rdi, STRIDE + 64
        dec     ecx
        jnz     .top
        dec     r15
        jnz     .again
        jmp     report

; Fibonacci's 20th number: 10,946 times 4 instructions and 10,945 times 13.
calls:  mov     edi, 20
        call    .number
        add     esi, eax
        dec     r15
        jnz     calls
        mov     eax, esi
        jmp     report
.number:
        cmp     edi, 2
        jl      .small
        push    rbx
        push    rdi
        dec     edi
        call    .number
        mov     ebx, eax
        pop     rdi
        sub     edi, 2
        call    .number
        add     eax, ebx
        pop     rbx
        ret
.small: mov     eax, edi
        ret

; 7 instructions: one of four functions through a table.
indirect:
        mov     rcx, r15
.top:   mov     edx, ecx
        and     edx, 3
        call    [.table + rdx * 8]
        dec     rcx
        jnz     .top
        jmp     report
.one:   add     eax, 1
        ret
.two:   add     eax, 2
        ret
.three: add     eax, 3
        ret
.four:  add     eax, 4
        ret
        align   8
.table: dq      .one, .two, .three, .four

; 64 KiB by REP MOVSB.
copy:   mov     esi, DATA
        mov     edi, DATA + 0x40000
        mov     ecx, 65536
        rep     movsb
        add     dword [DATA], 3
        dec     r15
        jnz     copy
        mov     eax, [DATA + 0x40000]
        jmp     report

; 12 instructions: scalar doubles and packed bytes, in registers and memory.
vector: mov     rcx, r15
        mov     edi, DATA
        mov     eax, 3
        cvtsi2sd xmm0, eax
        movapd  xmm1, xmm0
        pxor    xmm2, xmm2
        pxor    xmm3, xmm3
.top:   mulsd   xmm1, xmm0
        addsd   xmm1, xmm0
        movsd   [rdi], xmm1
        divsd   xmm1, xmm0
        addsd   xmm1, [rdi]
        sqrtsd  xmm1, xmm1
        movdqu  xmm4, [rdi]
        pcmpeqb xmm4, xmm3
        paddb   xmm2, xmm4
        movdqa  [rdi + 64], xmm2
        dec     rcx
        jnz     .top
        movq    rax, xmm1
        add     rax, [rdi + 64]
        jmp     report

; 8 instructions.
x87:    mov     rcx, r15
        mov     edi, DATA
        fninit
        fld1
        fldpi
.top:   fmul    st0, st1
        fadd    st0, st1
        fst     qword [rdi]
        fld     qword [rdi]
        fsqrt
        fstp    st1
        dec     rcx
        jnz     .top
        fstp    qword [rdi]
        mov     rax, [rdi]
        jmp     report

; The primes below 65,536.
sieve:  mov     edi, DATA
        mov     ecx, 65536
        mov     eax, 1
        rep     stosb
        xor     esi, esi
        mov     ebx, 2
.outer: cmp     byte [DATA + rbx], 0
        je      .next
        inc     esi
        lea     edx, [rbx + rbx]
.inner: mov     byte [DATA + rdx], 0
        add     edx, ebx
        cmp     edx, 65536
        jb      .inner
.next:  inc     ebx
        cmp     ebx, 32768
        jb      .outer
        dec     r15
        jnz     sieve
        mov     eax, esi
        jmp     report

; INT, INC, IRETQ; and 2 more.
interrupts:
        int     0x30
        dec     r15
        jnz     interrupts
        jmp     report
interrupt:
        inc     rax
        iretq

; One instruction changed, and run: 6 instructions.
patch:  mov     rcx, r15
        mov     edi, .target
        jmp     .top
.top:   mov     [rdi + 1], ecx
        jmp     .target
        times   96 nop
.target:
        mov     eax, 0x12345678
        add     rdx, rax
        dec     rcx
        jnz     .top
        mov     rax, rdx
        jmp     report

; CR3 written, and 16 pages touched.
reload: mov     rax, cr3
.again: mov     cr3, rax
        mov     edi, FINE
        mov     ecx, 16
.touch: add     rsi, [rdi]
        add     rdi, 0x1000
        dec     ecx
        jnz     .touch
        inc     rsi
        dec     r15
        jnz     .again
        mov     rax, rsi
        jmp     report

; A page touched that is not there: the handler maps it, and it is taken away again.
faults: mov     edi, FINE
        mov     ebx, PT
.again: mov     qword [rbx], 0
        invlpg  [rdi]
        add     rax, [rdi]
        dec     r15
        jnz     .again
        add     rax, rsi
        jmp     report
page_fault:
        push    rax
        mov     rax, cr2
        add     rsi, rax
        or      rax, 3
        mov     [rbx], rax
        pop     rax
        add     rsp, 8
        iretq

; 7 instructions, the sixth over the end of a page.
        times   0x9000 - 0x7C00 - 20 - ($ - $$) nop
crossing:
        mov     rcx, r15
.top:   add     eax, 0x12345678
        nop
        xor     edx, 0x12345678
        nop
        add     esi, edx
        dec     rcx
        jnz     .top
        add     rax, rsi
        jmp     report
        times   512 - ($ - $$) % 512 db 0
end:
