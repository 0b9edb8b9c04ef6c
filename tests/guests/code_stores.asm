; Every way to store changes code: a routine that has run is patched by each kind of instruction that writes memory, by
; the stacks of calls and interrupts and by port input, and then runs as it says. Source: Intel SDM 3A, 9.1.3 (there is
; a jump after each change).

%include "report.inc"
%include "protected.inc"

ROUTINE equ 0x30100                     ; mov eax, imm32; ret
VALUE   equ ROUTINE + 1
OTHER   equ 0x31000                     ; scratch

; FIRST value, instructions that put it into the routine's immediate, THEN value. EDI points there, ECX is the value.
%macro FIRST 1
        mov     dword [VALUE], 0
        call    run
        CHECK   eax, e, 0
        mov     edi, VALUE
        mov     ecx, %1
%endmacro
%macro THEN 1
        call    run
        CHECK   eax, e, %1
%endmacro
%macro PATCH 2+
        FIRST   %1
        %2
        THEN    %1
%endmacro
; RENEW and instructions that copy the routine from `routine` (ESI) to EDI, then RENEWED.
%macro RENEW 0
        mov     dword [VALUE], 0
        call    run
        CHECK   eax, e, 0
        mov     edi, ROUTINE
        mov     esi, routine
%endmacro
%macro RENEWED 0
        THEN    0x5A5A5A5A
%endmacro

        REAL_MODE_START
        ENTER_PROTECTED_MODE
        mov     ax, TASK
        ltr     ax
        mov     eax, cr0
        and     eax, ~0xC
        or      eax, 0x22
        mov     cr0, eax
        fninit
        mov     esi, routine
        mov     edi, ROUTINE
        mov     ecx, 32
        rep     movsb

; Integer instructions, each width.
        PATCH   0x12345678, mov [edi], ecx
        PATCH   0x00005678, mov [edi], cx
        PATCH   0x00000078, mov [edi], cl
        FIRST   0x56000000
        mov     ch, 0x56
        mov     [edi + 3], ch
        THEN    0x56000000
        PATCH   0x11223344, mov dword [edi], 0x11223344
        PATCH   0x11220000, mov word [edi + 2], 0x1122
        PATCH   0x00000042, mov byte [edi], 0x42
        PATCH   5, add dword [edi], 5
        PATCH   -1, sub dword [edi], 1
        PATCH   0x77, or [edi], ecx
        PATCH   0x76, xor [edi], cl
        PATCH   1, inc dword [edi]
        PATCH   0xFF, dec byte [edi]
        PATCH   -1, not dword [edi]
        FIRST   -2
        add     dword [edi], 2
        call    run
        neg     dword [edi]
        THEN    -2
        FIRST   0x100
        mov     byte [edi], 1
        call    run
        shl     dword [edi], 8
        THEN    0x100
        FIRST   0x80000000
        stc
        rcr     dword [edi], 1
        THEN    0x80000000
        FIRST   0x12
        mov     edx, 0x12000000
        shld    [edi], edx, 8
        THEN    0x12
        FIRST   0x34000000
        mov     edx, 0x34
        shrd    [edi], edx, 8
        THEN    0x34000000
        PATCH   0x40, bts dword [edi], 6
        FIRST   0x4000
        mov     edx, 14
        btc     [edi], edx
        THEN    0x4000
        FIRST   0x99
        mov     edx, ecx
        xchg    [edi], edx
        THEN    0x99
        FIRST   0x98
        mov     edx, ecx
        lock xadd [edi], edx
        THEN    0x98
        FIRST   0x97
        xor     eax, eax
        cmpxchg [edi], ecx
        THEN    0x97
        FIRST   0x96
        xor     eax, eax
        lock cmpxchg [edi], ecx
        THEN    0x96
        PATCH   7, lock add dword [edi], 7
        PATCH   8, lock or [edi], ecx
        FIRST   1
        cmp     eax, eax
        sete    [edi]
        THEN    1
        PATCH   DATA32, mov [edi], ds
        PATCH   TASK, str [edi]
        PATCH   0x33, smsw [edi]
        RENEW
        mov     eax, [VALUE - 1]        ; eight bytes at once
        mov     edx, [VALUE + 3]
        mov     ebx, [esi]
        mov     ecx, [esi + 4]
        cmpxchg8b [edi]
        RENEWED

; Stacks.
        FIRST   0x2468ACE0
        push    ecx
        pop     dword [edi]
        THEN    0x2468ACE0
        FIRST   0x2468ACE0
        mov     ebp, esp
        lea     esp, [edi + 4]
        push    ecx
        mov     esp, ebp
        THEN    0x2468ACE0
        FIRST   0x2468ACE0
        push    ecx
        mov     ebp, esp
        lea     esp, [edi + 4]
        push    dword [ebp]
        mov     esp, ebp
        pop     ecx
        THEN    0x2468ACE0
        FIRST   0x13579BDF
        mov     ebp, esp
        lea     esp, [edi + 4]
        push    dword 0x13579BDF
        mov     esp, ebp
        THEN    0x13579BDF
        FIRST   DATA32
        mov     ebp, esp
        lea     esp, [edi + 4]
        push    dword 0
        lea     esp, [edi + 4]
        push    ds
        mov     esp, ebp
        THEN    DATA32
        FIRST   0x46
        mov     ebp, esp
        lea     esp, [edi + 4]
        cmp     eax, eax
        pushf
        mov     esp, ebp
        THEN    0x46
        FIRST   0x2468ACE0
        mov     ebp, ecx
        mov     edx, esp
        lea     esp, [edi + 4]
        enter   0, 0
        mov     esp, edx
        THEN    0x2468ACE0
        FIRST   called
        mov     ebp, esp
        lea     esp, [edi + 4]
        call    called
called: mov     esp, ebp
        THEN    called
        FIRST   called_by_register
        mov     ebp, esp
        lea     esp, [edi + 4]
        mov     eax, called_by_register
        call    eax
called_by_register:
        mov     esp, ebp
        THEN    called_by_register
        RENEW                           ; PUSHAD: EBP, EBX and so on upwards; EAX and ECX are the routine
        mov     eax, [esi + 4]
        mov     ecx, [esi]
        mov     [OTHER], esp
        lea     esp, [edi + 8]
        pushad                          ; the topmost is EAX, ECX below
        mov     esp, [OTHER]
        RENEWED
; A frame pushed upon code is code: EIP is the immediate, CS (8) an OR, EFLAGS (46h) an INC.
        mov     esi, framed
        mov     edi, ROUTINE
        mov     ecx, framed_end - framed
        rep     movsb
        call    run
        CHECK   eax, e, OTHER
        SET_GATE 0x30, CODE32, interrupted, 0x8E00
        mov     ebp, esp
        mov     esp, VALUE + 12
        cmp     eax, eax
        int     0x30
sacrifice:
        FAIL
interrupted:
        mov     esp, ebp
        THEN    sacrifice
        mov     esi, far_framed
        mov     edi, ROUTINE
        mov     ecx, far_framed_end - far_framed
        rep     movsb
        call    run
        CHECK   eax, e, OTHER
        mov     ebp, esp
        mov     esp, VALUE + 8
        call    CODE32:far_called
sacrifice2:
        FAIL
far_called:
        mov     esp, ebp
        THEN    sacrifice2
        mov     esi, routine
        mov     edi, ROUTINE
        mov     ecx, 32
        rep     movsb

; Strings and ports.
        RENEW
        movsd
        movsd
        RENEWED
        RENEW
        mov     ecx, 2
        rep     movsd
        RENEWED
        RENEW
        mov     ecx, 8
        rep     movsb
        RENEWED
        RENEW
        std
        add     esi, 7
        add     edi, 7
        mov     ecx, 8
        rep     movsb
        cld
        RENEWED
        FIRST   0x07070707
        mov     al, 7
        mov     ecx, 4
        rep     stosb
        THEN    0x07070707
        FIRST   0x08080808
        mov     eax, ecx
        stosd
        THEN    0x08080808
        FIRST   0xE9E9E9E9
        mov     edx, 0xE9
        mov     ecx, 4
        rep     insb
        THEN    0xE9E9E9E9
        FIRST   0xE9
        mov     edx, 0xE9
        insb
        THEN    0xE9

; x87.
        RENEW
        fild    qword [esi]
        fistp   qword [edi]
        RENEWED
        RENEW
        fld     tword [esi]
        fstp    tword [edi]
        RENEWED
        FIRST   0x3F800000
        fld1
        fstp    dword [edi]
        THEN    0x3F800000
        PATCH   0x037F, fnstcw [edi]
        PATCH   0, fnstsw [edi]
        RENEW                           ; the last register of an image of 108 bytes: its mantissa is the routine
        fninit
        sub     esp, 128
        fld     tword [esi]
        fld     st0
        fld     st0
        fld     st0
        fld     st0
        fld     st0
        fld     st0
        fld     st0
        lea     edi, [ROUTINE - 98]
        fnsave  [edi]
        add     esp, 128
        RENEWED

; MMX and SSE, if there is SSE2.
        mov     eax, 1
        cpuid
        test    edx, 1 << 26
        jz      near no_sse
        mov     eax, cr4
        or      eax, 0x600              ; OSFXSR, OSXMMEXCPT
        mov     cr4, eax
        fninit
        RENEW
        movq    mm0, [esi]
        movq    [edi], mm0
        RENEWED
        RENEW
        movq    mm0, [esi]
        movntq  [edi], mm0
        RENEWED
        RENEW
        movq    mm0, [esi]
        pcmpeqb mm1, mm1
        maskmovq mm0, mm1
        RENEWED
        FIRST   0x12345678
        movd    mm0, ecx
        movd    [edi], mm0
        THEN    0x12345678
        emms
        FIRST   0x12345678
        movd    xmm0, ecx
        movd    [edi], xmm0
        THEN    0x12345678
        FIRST   0x12345678
        movd    xmm0, ecx
        movss   [edi], xmm0
        THEN    0x12345678
        PATCH   0x12345678, movnti [edi], ecx
        RENEW
        movups  xmm0, [esi]
        movups  [edi], xmm0
        RENEWED
        RENEW
        movups  xmm0, [esi]
        movaps  [edi], xmm0
        RENEWED
        RENEW
        movups  xmm0, [esi]
        movntdq [edi], xmm0
        RENEWED
        RENEW
        movups  xmm0, [esi]
        movlps  [edi], xmm0
        RENEWED
        RENEW
        movups  xmm0, [esi]
        pcmpeqb xmm1, xmm1
        maskmovdqu xmm0, xmm1
        RENEWED
        RENEW
        movups  xmm0, [esi]
        lea     edi, [ROUTINE - 160]    ; XMM0 in the image
        and     edi, ~15
        fxsave  [ROUTINE - 160]
        RENEWED
        PATCH   0x1F80, stmxcsr [edi]
no_sse:
        mov     eax, 1
        cpuid
        test    ecx, 1 << 22            ; MOVBE
        jz      near no_movbe
        FIRST   0x12345678
        bswap   ecx
        movbe   [edi], ecx
        THEN    0x12345678
no_movbe:
        PASS

run:    mov     edx, ROUTINE
        jmp     edx
        align   16
routine:
        mov     eax, 0x5A5A5A5A
        ret
        db      0x90, 0x90, 0x12, 0x40, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90
        times   32 nop
framed: mov     eax, OTHER
        dd      8, 0x46
        db      0xC3, 0xC3
framed_end:
far_framed:
        mov     eax, OTHER
        dd      8
        ret
far_framed_end:
