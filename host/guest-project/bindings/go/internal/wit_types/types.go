// Package wit_types has the types of WIT that Go has not. The generated code names them.
package wit_types

// Unit is what a function yields that yields nothing.
type Unit struct{}

// Tuple2 is a pair.
type Tuple2[A any, B any] struct {
	F0 A
	F1 B
}

// Option is a value that may be absent. Without one it is the zero Option.
type Option[T any] struct {
	value   T
	present bool
}

// What Option.Tag tells, as the canonical ABI numbers it.
const (
	OptionNone = 0
	OptionSome = 1
)

// Some is a value that is there.
func Some[T any](value T) Option[T] {
	return Option[T]{value: value, present: true}
}

// None is a value that is absent.
func None[T any]() Option[T] {
	return Option[T]{}
}

// Tag tells whether there is a value, as OptionSome or OptionNone.
func (option Option[T]) Tag() uint8 {
	if option.present {
		return OptionSome
	}
	return OptionNone
}

// IsSome tells whether there is a value.
func (option Option[T]) IsSome() bool {
	return option.present
}

// IsNone tells whether there is none.
func (option Option[T]) IsNone() bool {
	return !option.present
}

// Some is the value; where there is none, it panics.
func (option Option[T]) Some() T {
	if !option.present {
		panic("an absent value was asked for")
	}
	return option.value
}

// SomeOr is the value, or what is given instead of an absent one.
func (option Option[T]) SomeOr(instead T) T {
	if option.present {
		return option.value
	}
	return instead
}

// Result is what came of something: a value, or an error.
type Result[T any, E any] struct {
	value  T
	err    E
	failed bool
}

// What Result.Tag tells, as the canonical ABI numbers it.
const (
	ResultOk  = 0
	ResultErr = 1
)

// Ok is a value.
func Ok[T any, E any](value T) Result[T, E] {
	return Result[T, E]{value: value}
}

// Err is an error.
func Err[T any, E any](err E) Result[T, E] {
	return Result[T, E]{err: err, failed: true}
}

// Tag tells which it is, as ResultOk or ResultErr.
func (result Result[T, E]) Tag() uint8 {
	if result.failed {
		return ResultErr
	}
	return ResultOk
}

// Ok is the value; of an error, it panics.
func (result Result[T, E]) Ok() T {
	if result.failed {
		panic("the value of an error was asked for")
	}
	return result.value
}

// Err is the error; of a value, it panics.
func (result Result[T, E]) Err() E {
	if !result.failed {
		panic("the error of a value was asked for")
	}
	return result.err
}
