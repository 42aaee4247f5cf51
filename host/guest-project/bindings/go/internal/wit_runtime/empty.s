// Lets the functions of this package that the host has do without a body.
