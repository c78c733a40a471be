# SPDX-License-Identifier: Apache-2.0
# A boot sector that does to its disk, through the BIOS, what a boot loader does, and tells the
# serial console. dom0 prepared sector 1; this reads it, writes it inverted to sector 2, reads that
# back and compares. Any byte that dom0 finds in sector 2 came this way.
.code16
.globl _start
.set COM1, 0x3f8
.set READ, 0x42
.set WRITE, 0x43
.set ORIGINAL, 0x8000
.set INVERTED, 0x8200
.set AGAIN, 0x8400

_start:
  ljmp $0, $1f
1:
  xorw %ax, %ax
  movw %ax, %ds
  movw %ax, %es
  movw %ax, %ss
  movw $0x7c00, %sp
  cld
  sti
  movb %dl, drive

  movb $READ, %ah
  movw $ORIGINAL, %bx
  movw $1, %cx
  call transfer
  movw $ORIGINAL, %si
  movw $INVERTED, %di
  movw $256, %cx
2:
  lodsw
  notw %ax
  stosw
  loop 2b
  movb $WRITE, %ah
  movw $INVERTED, %bx
  movw $2, %cx
  call transfer
  movb $READ, %ah
  movw $AGAIN, %bx
  movw $2, %cx
  call transfer
  movw $INVERTED, %si
  movw $AGAIN, %di
  movw $256, %cx
  repe cmpsw
  jne differs
  movw $good, %si
  jmp end

# Operation AH on sector CX and the memory at BX.
transfer:
  movw %bx, buffer
  movw %cx, sector
  movb drive, %dl
  xorb %al, %al
  movw $packet, %si
  int $0x13
  jc failed
  ret
failed:
  movb %ah, %al
  addb $'A', %al
  call put
  movw $broken, %si
  jmp end
differs:
  movw $other, %si
end:
  lodsb
  testb %al, %al
  jz stop
  call put
  jmp end
stop:
  hlt
  jmp stop

# The character AL on the serial console.
put:
  movb %al, %cl
  movw $(COM1 + 5), %dx
3:
  inb %dx, %al
  testb $0x20, %al
  jz 3b
  movw $COM1, %dx
  movb %cl, %al
  outb %al, %dx
  ret

good: .asciz "BOOT: read, written, read back\r\n"
broken: .asciz " BOOT: the BIOS reports an error\r\n"
other: .asciz "BOOT: read back other data\r\n"

.balign 4
packet:
  .byte 16, 0
  .word 1
buffer:
  .word 0, 0
sector:
  .quad 0
drive:
  .byte 0

.org 510
  .word 0xaa55
