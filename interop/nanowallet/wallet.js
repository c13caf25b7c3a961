// A shop and its customer with other people's Nano software: the customer builds
// blocks with nanocurrency and speaks plain RPC, the shop is a wallet of
// @nanobox/nano-client, and both hear of what is cemented over
// reconnecting-websocket. What happened is printed as one line of JSON.
'use strict';
const nanocurrency = require('nanocurrency');
const { NanoClient } = require('@nanobox/nano-client');
const { NANO } = require('@nanobox/nano-client/dist/models');
const WebSocket = require('ws');
const ReconnectingWebSocket = require('reconnecting-websocket');

const { url, socket, key, seed, send: sendWork, receive: receiveWork } = JSON.parse(process.argv[2]);
const amount = 5n * 10n ** 30n;

async function rpc(action, question) {
  const response = await fetch(url, { method: 'POST', body: JSON.stringify({ action, ...question }) });
  const answer = await response.json();
  if (answer.error) throw new Error(`${action}: ${answer.error}`);
  return answer;
}

function person(secretKey) {
  const publicKey = nanocurrency.derivePublicKey(secretKey);
  return { secretKey, publicKey, address: nanocurrency.deriveAddress(publicKey, { useNanoPrefix: true }) };
}

// listen gives a function that waits for what is said about the given accounts.
async function listen(accounts) {
  const ws = new ReconnectingWebSocket(socket, [], { WebSocket });
  const heard = [];
  let told = () => {};
  ws.addEventListener('message', (event) => {
    heard.push(JSON.parse(event.data));
    told();
  });
  const until = async (is) => {
    for (;;) {
      const found = heard.find(is);
      if (found) return found;
      await new Promise((resolve) => { told = resolve; });
    }
  };
  ws.addEventListener('open', () => ws.send(JSON.stringify({
    action: 'subscribe', topic: 'confirmation', ack: true, id: 'shop', options: { accounts, include_election_info: 'true' },
  })));
  await until((m) => m.ack === 'subscribe' && m.id === 'shop');
  ws.send(JSON.stringify({ action: 'ping' }));
  await until((m) => m.ack === 'pong');
  return { cemented: (hash) => until((m) => m.topic === 'confirmation' && m.message.hash === hash), close: () => ws.close() };
}

async function main() {
  const customer = person(key);
  const shop = person(nanocurrency.deriveSecretKey(seed, 0));
  const ears = await listen([shop.address]);

  // The customer pays.
  const before = await rpc('account_info', { account: customer.address, representative: 'true' });
  const { work } = await rpc('work_generate', { hash: before.frontier, difficulty: sendWork });
  if (!nanocurrency.validateWork({ blockHash: before.frontier, work, threshold: sendWork })) throw new Error('the work is not enough');
  const paid = nanocurrency.createBlock(customer.secretKey, {
    work, previous: before.frontier, representative: before.representative,
    balance: (BigInt(before.balance) - amount).toString(), link: shop.address,
  });
  const { hash } = await rpc('process', { json_block: 'true', subtype: 'send', block: paid.block });
  if (hash !== paid.hash) throw new Error(`${paid.hash} is processed as ${hash}`);
  const cemented = await ears.cemented(hash);

  // The shop takes the money, and pays half of it back.
  const client = new NanoClient({ url, websocketUrl: undefined, defaultRepresentative: before.representative });
  client.SEND_WORK = sendWork;
  client.RECEIVE_WORK = receiveWork;
  const account = { address: shop.address, publicKey: shop.publicKey, privateKey: shop.secretKey, balance: NANO.ZERO };
  const taken = await client.update(account);
  if (taken.resolvedCount !== 1 || taken.error) throw new Error(`taken: ${JSON.stringify(taken)}`);
  const opened = await rpc('account_info', { account: shop.address });
  await ears.cemented(opened.frontier);
  await client.send(taken.account, customer.address, NANO.fromNumber(2.5));
  const last = await rpc('account_info', { account: shop.address, include_confirmed: 'true', representative: 'true' });
  await ears.cemented(last.frontier);
  const history = await client.getTransactions(shop.address);

  // What the node says of a block agrees with what others make of it.
  const info = await rpc('block_info', { json_block: 'true', hash: last.frontier });
  if (nanocurrency.hashBlock(info.contents) !== last.frontier) throw new Error('the block has another hash');
  if (!nanocurrency.verifyBlock({ hash: last.frontier, signature: info.contents.signature, publicKey: shop.publicKey })) throw new Error('the block is not signed');
  const waits = await rpc('receivable', { account: customer.address, count: '10', source: 'true' });
  ears.close();
  console.log(JSON.stringify({
    shop: shop.address, sent: hash, opened: opened.frontier, last: last.frontier, balance: last.balance, height: last.block_count,
    kind: cemented.message.confirmation_type, amount: cemented.message.amount, subtype: cemented.message.block.subtype,
    history: history.map((h) => h.type), waits: waits.blocks[last.frontier],
  }));
}

main().then(() => process.exit(0), (err) => { console.error(err); process.exit(1); });
