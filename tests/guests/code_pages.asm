; Code and translations: one frame at two linear addresses, instructions across two pages of which either is changed
; or remapped, linked code whose page moves, the same bytes under several code segments, string instructions over the
; code that runs, code that changes its own mapping. Source: Intel SDM 3A, 4.10.4, 9.1.3.

%include "report.inc"
%include "protected.inc"

DIRECTORY equ 0x10000
TABLE0  equ 0x11000
TABLE1  equ 0x12000
FRAME   equ 0x20000                     ; frames 0 to 7 behind PAGE
PAGE    equ 0x400000

; MAP page number, frame number
%macro MAP 2
        mov     dword [TABLE1 + 4 * (%1)], FRAME + 0x1000 * (%2) + 3
        invlpg  [PAGE + 0x1000 * (%1)]
%endmacro
; CALLED address, result in EAX
%macro CALLED 2
        mov     ebx, %1
        call    ebx
        CHECK   eax, e, %2
%endmacro
; COPY label, bytes, frame number, offset
%macro COPY 4
        mov     esi, %1
        mov     edi, FRAME + 0x1000 * (%3) + (%4)
        mov     ecx, %2
        rep     movsb
%endmacro

        REAL_MODE_START
        ENTER_PROTECTED_MODE
        mov     edi, DIRECTORY
        mov     ecx, 3 * 1024
        xor     eax, eax
        rep     stosd
        mov     edi, TABLE0
        mov     ecx, 1024
        mov     eax, 3
.fill:  stosd
        add     eax, 0x1000
        loop    .fill
        mov     edi, TABLE1
        mov     ecx, 8
        mov     eax, FRAME + 3
.fill1: stosd
        add     eax, 0x1000
        loop    .fill1
        mov     dword [DIRECTORY], TABLE0 | 3
        mov     dword [DIRECTORY + 4], TABLE1 | 3
        mov     eax, DIRECTORY
        mov     cr3, eax
        mov     eax, cr0
        or      eax, 0x80000000
        mov     cr0, eax

; One frame at two places: what is written at one runs at the other, and each knows where it is.
        COPY    constant, 6, 0, 0x100
        MAP     4, 0
        CALLED  PAGE + 0x100, 0x11111111
        CALLED  PAGE + 0x4100, 0x11111111
        mov     dword [PAGE + 0x4101], 0x22222222
        CALLED  PAGE + 0x100, 0x22222222
        CALLED  PAGE + 0x4100, 0x22222222
        mov     dword [FRAME + 0x101], 0x33333333       ; at a third
        CALLED  PAGE + 0x4100, 0x33333333
        CALLED  PAGE + 0x100, 0x33333333
        COPY    where, where_end - where, 0, 0x200
        CALLED  PAGE + 0x200, PAGE + 0x205
        CALLED  PAGE + 0x4200, PAGE + 0x4205
        CALLED  FRAME + 0x200, FRAME + 0x205
; The next instruction is changed through the other address (CPUID makes it known).
        mov     ecx, 50
.alias: push    ecx
        mov     esi, .changed
        and     esi, 0xFFF
        mov     eax, .changed
        and     eax, 0xFFFFF000
        or      eax, 3
        mov     [TABLE1 + 4 * 5], eax
        invlpg  [PAGE + 0x5000]
        xor     byte [PAGE + 0x5000 + esi], 0x40 ^ 0x48 ; inc eax, dec eax
        xor     eax, eax
        cpuid
        mov     eax, 100
.changed:
        inc     eax
        pop     ecx
        mov     edx, ecx
        and     edx, 1
        lea     edx, [edx * 2 + 99]     ; DEC when ECX is even: 50 comes first
        CHECK   eax, e, edx
        dec     ecx
        jnz     .alias

; An instruction across pages 0 and 1: every half changed, in place and through another address.
        COPY    constant, 3, 0, 0xFFD
        COPY    constant + 3, 3, 1, 0
        MAP     4, 0
        MAP     5, 1
        mov     ecx, 30
.across:
        push    ecx
        CALLED  PAGE + 0xFFD, 0x11111111
        mov     byte [PAGE + 0x1000], 0x22
        CALLED  PAGE + 0xFFD, 0x11221111
        mov     byte [PAGE + 0x5001], 0x33
        CALLED  PAGE + 0xFFD, 0x33221111
        mov     byte [PAGE + 0x4FFE], 0x44
        CALLED  PAGE + 0xFFD, 0x33221144
        mov     word [FRAME + 0xFFF], 0x5555            ; both at once
        CALLED  PAGE + 0xFFD, 0x33555544
        mov     dword [FRAME + 0xFFE], 0x11111111
        pop     ecx
        dec     ecx
        jnz     .across
; The second page remapped: with INVLPG, by CR3, by another directory; then the first.
        COPY    across2, 3, 2, 0
        MAP     1, 2
        CALLED  PAGE + 0xFFD, 0x66661111
        mov     dword [TABLE1 + 4], FRAME + 0x1000 + 3
        mov     eax, cr3
        mov     cr3, eax
        CALLED  PAGE + 0xFFD, 0x11111111
        mov     dword [FRAME + 0x2000], 0xC37777        ; the one that is not mapped now
        CALLED  PAGE + 0xFFD, 0x11111111
        MAP     1, 2
        CALLED  PAGE + 0xFFD, 0x77771111
        COPY    constant, 3, 3, 0xFFD
        mov     word [FRAME + 0x3FFE], 0x8888
        MAP     0, 3
        CALLED  PAGE + 0xFFD, 0x77778888
        MAP     0, 0
        CALLED  PAGE + 0xFFD, 0x77771111
        ; The second page becomes absent, then comes back with other bytes.
        mov     dword [TABLE1 + 4], 0
        invlpg  [PAGE + 0x1000]
        mov     dword [resume], .absent
        mov     [resume_esp], esp
        mov     ebx, PAGE + 0xFFD
        call    ebx
.absent:
        CHECK   dword [fault_vector], e, 14
        CHECK   dword [fault_cr2], e, PAGE + 0x1000
        CHECK   dword [fault_eip], e, PAGE + 0xFFD
        mov     esp, [resume_esp]
        mov     dword [resume], 0
        mov     dword [FRAME + 0x1000], 0xC39999
        MAP     1, 1
        CALLED  PAGE + 0xFFD, 0x99991111

; A loop over a page boundary, whose second page is swapped by the loop itself: INVLPG, then a jump.
        COPY    swapped, swapped_end - swapped, 0, 0xFF0
        COPY    adds1, 8, 1, 0
        COPY    adds2, 8, 2, 0
        COPY    adds_tail, adds_tail_end - adds_tail, 1, 8
        COPY    adds_tail, adds_tail_end - adds_tail, 2, 8
        mov     ecx, 1000
        xor     eax, eax
        xor     edx, edx
        mov     esi, FRAME + 0x1000 + 3
        mov     ebx, PAGE + 0xFF0
        call    ebx
        CHECK   eax, e, 500 * 1 + 500 * 16

; Linked code: page 6 calls page 7, which is another frame every time.
        COPY    caller, caller_end - caller, 6, 0
        COPY    constant, 6, 0, 0x300
        COPY    constant2, 6, 1, 0x300
        mov     edi, 100
.linked:
        MAP     7, 0
        CALLED  PAGE + 0x6000, 0x11111112
        MAP     7, 1
        CALLED  PAGE + 0x6000, 0x22222223
        dec     edi
        jnz     .linked
        ; And the caller's own page moves.
        COPY    caller, caller_end - caller, 5, 0
        mov     byte [FRAME + 0x5000 + caller_add - caller + 2], 2
        MAP     6, 5
        CALLED  PAGE + 0x6000, 0x22222224
        MAP     6, 6
        CALLED  PAGE + 0x6000, 0x22222223

; The same bytes under code segments with other bases and sizes.
        mov     dword [spare_descriptor], 0x0000FFFF    ; base PAGE
        mov     dword [spare_descriptor + 4], 0x00CF9B40
        MAP     0, 0
        COPY    far_where, far_where_end - far_where, 0, 0x200
        call    CODE32:PAGE + 0x200
        CHECK   eax, e, PAGE + 0x205
        call    SPARE:0x200
        CHECK   eax, e, 0x205
        COPY    sizes, sizes_end - sizes, 0, 0x280
        mov     dword [spare_descriptor + 4], 0x008F9B40        ; 16 bits: the immediate is a word
        call    CODE32:PAGE + 0x280
        CHECK   eax, e, 0x40901234
        mov     eax, 0
        o16 call SPARE:word 0x280       ; two words, which its RETF takes
        CHECK   eax, e, 0x1235

; REP MOVSB over the code behind it, over itself with the same bytes, and over a routine in several pages.
        mov     eax, 0
        mov     esi, .patch
        mov     edi, .over
        mov     ecx, .patch_end - .patch
.over:  rep     movsb
        nop
        nop
        nop
        jmp     .over_done
.patch: rep     movsb
        inc     eax
        inc     eax
        inc     eax
.patch_end:
.over_done:
        CHECK   eax, e, 3
        mov     ecx, 0x2000             ; NOPs over two pages, then RET
        mov     edi, PAGE + 0x2800
        mov     al, 0x90
        rep     stosb
        mov     byte [edi], 0xC3
        mov     eax, 7
        CALLED  PAGE + 0x2800, 7
        mov     esi, PAGE + 0x2800
        mov     byte [esi], 0x40        ; INC EAX, spread by an overlapping copy
        lea     edi, [esi + 1]
        mov     ecx, 0x1FFF
        rep     movsb
        xor     eax, eax
        CALLED  PAGE + 0x2800, 0x2000
        PASS

constant:
        mov     eax, 0x11111111
        ret
constant2:
        mov     eax, 0x22222222
        ret
across2:
        db      0x66, 0x66, 0xC3
where:  call    .here
.here:  pop     eax
        ret
where_end:
far_where:
        call    .here
.here:  pop     eax
        retf
far_where_end:
sizes:  mov     eax, 0x40901234         ; in 16 bits: MOV AX, 1234h; NOP; INC AX
        jmp     short .wide             ; in 16 bits as well
.wide:  retf
sizes_end:
; At PAGE + 0xFF0: 16 bytes up to the end of the page. ESI is the entry of the second.
swapped:
        mov     edi, TABLE1 + 4
        mov     [edi], esi
        db      0x0F, 0x01, 0x3D        ; invlpg [PAGE + 0x1000]
        dd      PAGE + 0x1000
        jmp     short .second
.second:
swapped_end:
; At PAGE + 0x1000: 8 bytes.
adds1:  add     eax, 1
        jmp     short adds1 + 8
        times   8 - ($ - adds1) nop
adds2:  add     eax, 16
        jmp     short .end
        times   8 - ($ - adds2) nop
.end:
; Behind either, at PAGE + 0x1008: the other frame next time, and on.
adds_tail:
        xor     esi, (FRAME + 0x1000) ^ (FRAME + 0x2000)
        mov     edx, PAGE + 0xFF0
        dec     ecx
        jz      .done
        jmp     edx
.done:  ret
adds_tail_end:
caller: push    edi
        mov     edx, PAGE + 0x7300
        call    edx
caller_add:
        add     eax, 1
        pop     edi
        ret
caller_end:
