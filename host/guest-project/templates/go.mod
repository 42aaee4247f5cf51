module NAME

go 1.24

require witgate v0.0.0

replace witgate => ./bindings
