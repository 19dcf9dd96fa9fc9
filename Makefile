.PHONY: run client test race bench check

run: ## serve users.txt on 127.0.0.1:12345
	go run .

client: ## talk to it
	go run ./client

test: ## run all tests
	go test .

race: ## the same under the race detector (needs a C compiler)
	go test -race .

bench: ## measure; see TESTING.md
	go test -run '^$$' -bench .

check: ## what has to pass before a change is done
	bash .ci/run
