// Package runtime gives the host memory to put arguments into, and the generated code memory for what it returns.
package runtime

import (
	"runtime"
	"unsafe"
)

// The most that the canonical ABI aligns anything to; a slice of uint64 is aligned so.
const word = unsafe.Sizeof(uint64(0))

// What the host was given since the last Unpin: the collector does not see who holds it.
var given runtime.Pinner

// Whether Go's runtime has begun. The adapter of WASI asks for memory before that.
var begun bool

func init() {
	begun = true
}

// Allocate yields zeroed memory that stays where it is until pinner lets it go; none where size is zero.
func Allocate(pinner *runtime.Pinner, size, align uintptr) unsafe.Pointer {
	if align > word {
		panic("nothing in the contract is aligned to more than eight bytes")
	}
	if size == 0 {
		return nil
	}
	words := make([]uint64, (size+word-1)/word)
	memory := unsafe.Pointer(&words[0])
	pinner.Pin(memory)
	return memory
}

// Unpin lets go of what the host was given for a call's arguments.
func Unpin() {
	given.Unpin()
}

// The allocator below Go's own, which can be asked before the runtime has begun.
//
//go:linkname systemBreak runtime.sbrk
func systemBreak(size uintptr) unsafe.Pointer

// Go's collector looks at the clock, and nothing may be imported while the host asks for memory: meanwhile the adapter
// answers with the time that it told last.
//
//go:wasmimport wasi_snapshot_preview1 adapter_monotonic_clock_set_paused
func pauseClock(paused bool)

//go:wasmexport cabi_realloc
func realloc(old unsafe.Pointer, oldSize, align, size uintptr) unsafe.Pointer {
	if old != nil || oldSize != 0 {
		panic("the host never grows what it was given")
	}
	if !begun {
		// More than asked for, to begin at a multiple of align.
		start := uintptr(systemBreak(size + align))
		return unsafe.Pointer((start + align - 1) / align * align)
	}
	pauseClock(true)
	memory := Allocate(&given, size, align)
	pauseClock(false)
	return memory
}
