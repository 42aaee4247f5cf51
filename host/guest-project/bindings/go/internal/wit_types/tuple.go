// From go.bytecodealliance.org/pkg v0.2.3, by the Bytecode Alliance: Apache-2.0 WITH LLVM-exception; changed: pairs alone.

package wit_types

type Tuple2[T0 any, T1 any] struct {
	F0 T0
	F1 T1
}
