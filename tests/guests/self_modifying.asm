; Code that changes while it runs: within its own block, right behind the store, in another page, by string
; instructions, across a page boundary, and back and forth. Source: Intel SDM 3A, 9.1.3; where the manual wants a jump
; after the change there is one, and where the P6 family is exact without, that is checked as well.

%include "report.inc"
%include "protected.inc"

FAR_PAGE equ 0x30000

        REAL_MODE_START
        ENTER_PROTECTED_MODE

; An immediate in a loop: each round changes the next one's addend. 1 + 2 + ... + 100.
        xor     eax, eax
        mov     ecx, 100
.loop:
.add:   add     eax, strict dword 1
        inc     dword [.add + 1]
        jmp     .next
.next:  dec     ecx
        jnz     .loop
        CHECK   eax, e, 5050

; The instruction right behind the store.
        xor     eax, eax
        mov     byte [.victim], 0x40    ; inc eax
.victim:
        nop
        CHECK   eax, e, 1
        mov     byte [.victim], 0x90

; One opcode becomes another, a thousand times.
        xor     eax, eax
        mov     ecx, 1000
.flip:  xor     byte [.flipped], 0x40 ^ 0x48    ; inc eax, dec eax
        jmp     .flipped
.flipped:
        inc     eax
        dec     ecx
        jnz     .flip
        CHECK   eax, e, 0

; A routine in another page, replaced by REP MOVSB, then by REP STOSB.
        mov     ebx, FAR_PAGE
        mov     esi, routine1
        mov     edi, ebx
        mov     ecx, 6
        rep     movsb
        call    ebx
        CHECK   eax, e, 0x11111111
        mov     esi, routine2
        mov     edi, ebx
        mov     ecx, 6
        rep     movsb
        call    ebx
        CHECK   eax, e, 0x22222222
        lea     edi, [ebx + 1]
        mov     al, 0x33
        mov     ecx, 4
        rep     stosb
        call    ebx
        CHECK   eax, e, 0x33333333
        add     dword [ebx + 1], 0x11111111
        call    ebx
        CHECK   eax, e, 0x44444444
        push    dword 0x55555555        ; by the stack
        mov     ebp, esp
        lea     esp, [ebx + 5]
        push    dword [ebp]
        mov     esp, ebp
        add     esp, 4
        call    ebx
        CHECK   eax, e, 0x55555555

; Across the boundary of two pages: either half may change.
        lea     ebx, [FAR_PAGE + 0x1000 - 3]
        mov     esi, routine1
        mov     edi, ebx
        mov     ecx, 6
        rep     movsb
        call    ebx
        CHECK   eax, e, 0x11111111
        mov     byte [FAR_PAGE + 0x1000], 0x99
        call    ebx
        CHECK   eax, e, 0x11991111
        mov     byte [FAR_PAGE + 0xFFF], 0x88
        call    ebx
        CHECK   eax, e, 0x11998811
        mov     dword [FAR_PAGE + 0xFFE], 0x77777777
        call    ebx
        CHECK   eax, e, 0x77777777

; A jump's target within the block that runs.
        mov     ecx, 3
        xor     eax, eax
.again: add     eax, 1
        mov     byte [.short + 1], .out - .short - 2
        dec     ecx
        jz      .short
        mov     byte [.short + 1], .again - .short - 2
        jmp     .short
.short: jmp     short .again
.out:   CHECK   eax, e, 3

; Data in the page of code, written often: no more than slow.
        mov     ecx, 20000
.data:  inc     dword [counter]
        dec     ecx
        jnz     .data
        CHECK   dword [counter], e, 20000
        PASS

counter: dd     0
routine1:
        mov     eax, 0x11111111
        ret
routine2:
        mov     eax, 0x22222222
        ret
