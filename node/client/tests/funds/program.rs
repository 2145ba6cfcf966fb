//! A program's own hand on its channel, from the first deposit to the last coin back.

use cocoon_client::{
    Channel, Client, ContractView, MoneyAct, MoneyRefusal, NetworkFault, Standing, Step, TopUp,
    WalletView, Wish,
};
use cocoon_host::Stop;
use cocoon_units::{Address, Nanoton};

use crate::proxy::Proxy;
use crate::{DEADLINE, Site, TON, until};

const fn ton(count: u64) -> Nanoton {
    Nanoton(count * TON)
}

/// Connects as soon as the connection before has let go of the journal.
async fn connect_again(site: &Site) -> Client {
    let mut client = None;
    until("the journal is free", async || {
        client = match Client::connect(&site.config).await {
            Ok(client) => Some(client),
            Err(NetworkFault::Journal(_)) => None,
            Err(fault) => panic!("{fault}"),
        };
        client.is_some()
    })
    .await;
    client.unwrap()
}

/// The wallet is known before it has coins, and the channel says what is missing.
async fn knows_what_it_lacks(site: &Site, client: &Client, channel: &Channel) {
    assert_eq!(client.wallet().unwrap().address, site.wallet);
    let nobody = client.channel(Address::new(0, [9; 32]));
    assert!(matches!(nobody.withdraw().await, Err(MoneyRefusal::Unknown(_))));
    assert!(matches!(nobody.settled().await, Err(MoneyRefusal::Unknown(_))));
    assert_eq!(nobody.state(), None);
    until("the program knows what is missing", async || {
        let state = channel.state();
        state.and_then(|s| s.money).is_some_and(|m| m.doing.contains("the wallet has 0 TON"))
    })
    .await;
    assert_eq!(channel.state().unwrap().money.unwrap().standing, Standing::Absent);
    let early = channel.top_up(TopUp::Stake).await.unwrap_err();
    assert!(matches!(&early, MoneyRefusal::Refused(_)), "{early}");
}

/// Waits until the channel has settled; time goes by on the chain while nothing is on its way.
async fn settled_as_time_goes(site: &Site, channel: &Channel) -> ContractView {
    let mut settled = std::pin::pin!(channel.settled());
    loop {
        tokio::select! {
            end = &mut settled => return end.unwrap(),
            () = tokio::time::sleep(std::time::Duration::from_millis(50)) => {}
        }
        let money = channel.state().unwrap().money.unwrap();
        if money.on_its_way.is_none() && money.standing == Standing::Closing {
            site.serving.node.advance(200_000).unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_program_tops_up_charges_takes_out_and_closes() {
    let dir = tempfile::tempdir().unwrap();
    let stop = Stop::new();
    let mut proxy = Proxy::new().await;
    let site = Site::new(dir.path(), proxy.address, &stop).await;
    let client = Client::connect(&site.config).await.unwrap();
    let (identity, params) = (site.identity.clone(), site.state.network.clone());
    let met = proxy.meet(&identity, &params, site.wallet, 7).await;

    let channel = client.channel(site.proxy());
    knows_what_it_lacks(&site, &client, &channel).await;
    site.fund(site.wallet, 100);
    until("registration", async || site.is_registered(7).await).await;
    proxy.let_in(&met, 0).await;
    tokio::time::timeout(DEADLINE, client.ready()).await.unwrap();

    // Only looked at: nothing moves.
    let four = MoneyAct::TopUp(TopUp::By(ton(4)));
    let plan = channel.preview(four).await.unwrap();
    let step = plan.step.unwrap();
    assert_eq!((plan.is_accepted, plan.wish), (false, Wish::PaidIn(ton(7))));
    assert_eq!((step.becomes_a_deposit, plan.balance), (ton(4), Some(ton(3))));
    let parts = [ton(4), step.stays, step.fees_at_most, step.comes_back_at_once];
    assert_eq!(step.sends.0, parts.iter().map(|part| part.0).sum::<u64>());
    assert_eq!(site.state_of(site.client()).await.balance, ton(3));

    // Asked for, and the program dies at once; the next start does it, once.
    let plan = channel.top_up(TopUp::Until(ton(7))).await.unwrap();
    assert!(plan.is_accepted);
    let money = channel.state().unwrap().money.unwrap();
    // The node may have carried it out by now; and a start does not know how a wish ended before.
    let is_done = money.last_wish.as_ref().is_some_and(|end| end.words == "done");
    assert!(is_done || money.wished == Some(Wish::PaidIn(ton(7))), "{money:?}");
    drop(channel);
    client.close().await;
    proxy.gone(&met).await;
    let client = connect_again(&site).await;
    let channel = client.channel(site.client());
    until("the contract is known again", async || {
        let state = channel.state();
        state.and_then(|state| state.money).is_some_and(|money| money.on_chain.is_some())
    })
    .await;
    let view = tokio::time::timeout(DEADLINE, channel.settled()).await.unwrap().unwrap();
    assert_eq!((view.on_chain.unwrap().balance, view.paid_in), (ton(7), ton(7)));
    assert!(view.last_wish.is_none_or(|end| end.words == "done"));
    let again = channel.top_up(TopUp::Until(ton(7))).await.unwrap();
    assert_eq!(again.step, None);
    assert_eq!(site.state_of(site.client()).await.balance, ton(7));

    // Nothing signed yet; and more than the wallet has.
    assert_eq!(channel.charge().await.unwrap().next, "done");
    let much = channel.top_up(TopUp::By(ton(5_000))).await.unwrap_err().to_string();
    assert!(much.contains("the wallet has"), "{much}");

    let plan = channel.withdraw().await.unwrap();
    assert_eq!(plan.step.unwrap().comes_back_from_the_contract, ton(4));
    let view = tokio::time::timeout(DEADLINE, channel.settled()).await.unwrap().unwrap();
    assert_eq!(view.on_chain.unwrap().balance, ton(3));
    assert_eq!(site.paid_back(site.proxy()).await, 4 * TON);

    let plan = channel.close().await.unwrap();
    assert!(plan.note.unwrap().contains("3600 s"));
    let view = tokio::time::timeout(DEADLINE, settled_as_time_goes(&site, &channel)).await.unwrap();
    assert_eq!((view.standing, view.on_chain.unwrap().balance), (Standing::Closed, Nanoton::ZERO));
    assert_eq!(view.on_its_way, None::<Step>);
    assert_eq!(site.paid_back(site.proxy()).await, 7 * TON);
    let late = channel.top_up(TopUp::Stake).await.unwrap_err().to_string();
    assert!(late.contains("closed"), "{late}");
    // All of it is back but for fees and what closed accounts keep.
    let WalletView { balance, .. } = client.wallet().unwrap();
    assert!(balance.unwrap() > Nanoton(99 * TON + TON / 2), "{balance:?}");
    client.close().await;
    stop.now();
}
