// From go.bytecodealliance.org/pkg v0.2.3, by the Bytecode Alliance: Apache-2.0 WITH LLVM-exception.

package wit_types

type Unit struct{}
