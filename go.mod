module chat

go 1.22
