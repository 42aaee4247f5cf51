module deny-exec

go 1.24

require witgate v0.0.0

replace witgate => ../../../../host/guest-project/bindings/go
